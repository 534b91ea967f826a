"""The statistics stage against bare network calls of the same batch, in turn, in one run.

    python benchmarks/statistics_stage.py

The stage does everything: noising, the network, per-image errors, two decoder terms, collection and the file.
Exits non-zero below the ratio that the project promises.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import pytorch_lightning as pl
import torch

from fewstep.__main__ import CONF, build
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.modules.statistics import StatisticsModule, measured_rows
from fewstep.statistics.denoising_error import DenoisingErrorEstimator

PROMISED = 0.9


def stage(denoiser: Denoiser, images: torch.Tensor, timesteps: int, path: Path) -> float:
    """Seconds of the stage for `timesteps` rows."""
    T = denoiser.process.T
    indices = torch.linspace(1, T, timesteps).round().long().tolist()
    started = time.perf_counter()
    estimator = DenoisingErrorEstimator(
        images, None, split="train", levels=17, indices=indices, seed=0, batch_size=len(images)
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path.parent,
    )
    measured = measured_rows(trainer, StatisticsModule(denoiser, estimator))
    estimator.collect(denoiser.process, measured).save(path)
    return time.perf_counter() - started


@torch.inference_mode()
def bare(denoiser: Denoiser, images: torch.Tensor, timesteps: int) -> float:
    """Seconds of as many bare calls of the network."""
    backbone, time_value = denoiser.backbone, torch.zeros(len(images))
    started = time.perf_counter()
    for _ in range(timesteps):
        backbone(images, time_value)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timesteps", type=int, default=1000)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    import hydra
    from omegaconf import OmegaConf

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("config"), resolve=True)
    assert isinstance(config, dict)
    denoiser = build(config["model"]).eval()
    images = Digits().images("train")[: arguments.images]
    rates: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds + 1):  # the first round warms up
            pair = (
                stage(denoiser, images, arguments.timesteps, Path(folder) / "statistics.safetensors"),
                bare(denoiser, images, arguments.timesteps),
            )
            if turn:
                rates.append(pair)
    calls = arguments.timesteps * arguments.images
    ratios = sorted(network / whole for whole, network in rates)
    print(f"{arguments.images} images × {arguments.timesteps} timesteps, {torch.get_num_threads()} threads")
    print(f"{'':24}{'calls/s, median':>18}")
    print(f"{'statistics stage':24}{calls / median(whole for whole, _ in rates):18.0f}")
    print(f"{'bare network calls':24}{calls / median(network for _, network in rates):18.0f}")
    print(f"ratio, median of {len(ratios)} pairs: {median(ratios):.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f})")
    if median(ratios) < PROMISED:
        raise SystemExit(f"below the promised {PROMISED}")


if __name__ == "__main__":
    main()
