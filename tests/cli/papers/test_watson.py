"""Watson et al. 2021: each experiment at small size from the published kinds of files to the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fewstep.backbones.unet import UNet
from fewstep.noise_laws import published_linear_betas
from soak.checkpoints import random_tensors
from soak.official_files import cifar_files

OPTIMIZERS = {"even", "quadratic", "elbo_dp", "mse_reweighted_dp"}
T = 24  # a linear process has no fewer than 21
OPENAI = ["process.T=8", "model.timesteps=8", "model.model_channels=8"]


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar") / "cifar-10-batches-py"
    folder.mkdir()
    for name, content in cifar_files(4)[0].items():
        (folder / name).write_bytes(content)
    return folder


def openai_checkpoint(folder: Path, size: int, mult: list[int]) -> Path:
    """A thin network of improved-diffusion's with random weights, and a fraction of the variance near ½."""
    network = UNet(
        image_size=size,
        in_channels=3,
        out_channels=6,
        model_channels=8,
        num_res_blocks=1,
        channel_mult=mult,
        attention_resolutions=[8],
        num_heads=4,
    )
    tensors = random_tensors({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    tensors["out.2.weight"] *= 0.1
    torch.save(tensors, folder / "model.pt")
    return folder / "model.pt"


def diffusers_folder(folder: Path) -> Path:
    """A thin UNet2DModel and Ho et al.'s scheduler with fewer timesteps, as diffusers saves them."""
    diffusers = pytest.importorskip("diffusers", reason="needs pip install 'fewstep[diffusers]'")
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=32,
        block_out_channels=[8, 8],
        layers_per_block=1,
        down_block_types=["DownBlock2D", "AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D", "UpBlock2D"],
        norm_num_groups=4,
        attention_head_dim=4,
    )
    network.save_pretrained(folder / "model")
    first, last = published_linear_betas(T)
    diffusers.DDPMScheduler(T, beta_start=first, beta_end=last).save_pretrained(folder / "model")
    return folder / "model"


def check_tables(rows: Any, dataset: str, steps: list[int], timesteps: int, variances: list[str]) -> None:
    """Every cell of the two tables is there: bits/dim, the whole grid's too, and FID under both solvers."""
    bits = rows[rows.metric == "bits_per_dim"]
    cells = {(o, k) for o in OPTIMIZERS for k in steps} | {("full", timesteps)}
    expected = {(*cell, v, d) for cell in cells for v in variances for d in ("additive", "improved_diffusion")}
    found = bits[["schedule_optimizer", "steps", "variance", "decoder"]].itertuples(index=False, name=None)
    assert {*found} == expected
    assert {*bits.split} == {"test"}
    fid = rows[(rows.metric == f"fid_{dataset}") & rows.steps.notna()]
    expected_fid = {(o, k, solver) for o in OPTIMIZERS for k in steps for solver in ("ancestral", "ddim")}
    assert {*fid[["schedule_optimizer", "steps", "solver"]].itertuples(index=False, name=None)} == expected_fid


def test_cifar10_simple(results: Callable[..., Any], cifar10: Path, tmp_path: Path) -> None:
    words = [f"process.T={T}", "steps=[2,4]"]
    rows = results("watson_cifar10_simple", diffusers_folder(tmp_path), cifar10, *words)
    check_tables(rows, "cifar10", [2, 4], T, ["posterior", "beta", "optimal"])


def test_cifar10_hybrid(results: Callable[..., Any], cifar10: Path, tmp_path: Path) -> None:
    checkpoint = openai_checkpoint(tmp_path, 32, [1, 1, 2])
    rows = results("watson_cifar10_hybrid", checkpoint, cifar10, *OPENAI, "steps=[2]")
    check_tables(rows, "cifar10", [2], 8, ["learned"])


def test_imagenet64_hybrid(results: Callable[..., Any], imagenet64: Path, tmp_path: Path) -> None:
    checkpoint = openai_checkpoint(tmp_path, 64, [1, 1, 2, 2])
    words = [*OPENAI, "steps=[2]", "dataset.validation=4", "statistics.images=2"]
    rows = results("watson_imagenet64_hybrid", checkpoint, imagenet64, *words)
    check_tables(rows, "imagenet64", [2], 8, ["learned"])
