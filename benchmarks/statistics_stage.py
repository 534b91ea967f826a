"""The statistics stage against bare network calls of the same batch, in turn, in one run.

    python benchmarks/statistics_stage.py

The stage does everything: noising, the network, per-image errors, decoder terms, what a learned variance needs,
collection and the file. It is measured for the demo's small network, with a variance head and without one; which
variance kinds a table is made for later costs it nothing more. Exits non-zero below the ratio that the project
promises.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import hydra
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from fewstep.__main__ import CONF, build
from fewstep.data.digits import Digits
from fewstep.denoiser import Denoiser
from fewstep.modules.statistics import StatisticsModule, measured_rows
from fewstep.statistics.denoising_error import DenoisingErrorEstimator

PROMISED = 0.95
MODELS = {"posterior, beta, optimal": "unet_digits", "and learned": "unet_digits_learned"}


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
    print(f"{arguments.images} images × {arguments.timesteps} timesteps, {torch.get_num_threads()} threads")
    print(f"{'':28}{'stage, calls/s':>16}{'bare calls/s':>14}   ratio, median of pairs")
    medians = [measure(kinds, model, arguments) for kinds, model in MODELS.items()]
    if min(medians) < PROMISED:
        raise SystemExit(f"below the promised {PROMISED}")


def measure(kinds: str, model: str, arguments: argparse.Namespace) -> float:
    """Print a line of the table; returns its ratio."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("config", [f"model={model}"]), resolve=True)
    assert isinstance(config, dict)
    denoiser = build(config["model"]).eval()
    for parameter in denoiser.parameters():  # some layers of a new network are zero
        torch.nn.init.normal_(parameter, std=0.05)
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
    whole, network = (median(seconds) for seconds in zip(*rates, strict=True))
    spread = f"{median(ratios):.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f})"
    print(f"{kinds:28}{calls / whole:16.0f}{calls / network:14.0f}   {spread}")
    return median(ratios)


if __name__ == "__main__":
    main()
