"""Rows of results as evaluations and rounds write them."""

from typing import Any

from fewstep.results import Result

OF: dict[str, Any] = {"dataset": "digits", "process": "cosine", "train_seed": 0}


def judged(name: str, *, tuned: bool = False) -> list[Result]:
    """Bits/dim at two K, Fréchet distances of two seeds each under a solver of 2K − 1 calls, and nodes."""
    rows = []
    for K in (4, 8):
        of: dict[str, Any] = {**OF, "schedule_optimizer": name, "steps": K, "finetuned": tuned}
        likelihood = {"variance": "optimal", "decoder": "additive", "n_images": 20, "split": "test"}
        rows.append(Result(**of, **likelihood, metric="bits_per_dim", value=8 / K, standard_error=0.25, nfe=K))
        rows += [
            Result(**of, metric="fid_digits", value=K + seed, solver="heun", nfe=2 * K - 1, sample_seed=seed)
            for seed in (0, 1)
        ]
        rows += [Result(**of, metric="node_log_snr", value=float(node)) for node in range(K)]
    return rows


def rounds() -> list[Result]:
    """The loss after every phase of two rounds."""
    of: dict[str, Any] = {**OF, "schedule_optimizer": "elbo_dp_rounds2", "steps": 4, "n_images": 20}
    losses = {"round01_search": 9.0, "round01_finetune": 7.0, "round02_search": 6.0, "round02_finetune": 5.0}
    counts = {"rounds_made": 2.0, "kept_round": 2.0}
    return [
        *(Result(**of, metric=f"loss_after_{phase}", value=loss) for phase, loss in losses.items()),
        *(Result(**of, metric=name, value=count) for name, count in counts.items()),
    ]
