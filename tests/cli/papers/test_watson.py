"""The experiments of the two papers: their published numbers, and each at small size from files to report."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from fewstep.__main__ import CONF
from fewstep.backbones.unet import UNet
from fewstep.noise_laws import published_linear_betas
from fewstep.results import read_results
from soak.checkpoints import edm_network, edm_pickle, edm_precond, random_tensors
from soak.official_files import cifar_files, imagenet_npz

K = [8, 16, 32, 64, 128, 256]
WATSON = {"even", "quadratic", "elbo_dp", "mse_reweighted_dp"}
FIXED, LEARNED = ["posterior", "beta", "optimal"], ["learned"]
PUBLISHED = {  # dataset, process, T, variances, images behind the table
    "watson_cifar10_simple": ("Cifar10", "linear", 1000, FIXED, None),
    "watson_cifar10_vlb": ("Cifar10", "cosine", 4000, LEARNED, None),
    "watson_cifar10_hybrid": ("Cifar10", "cosine", 4000, LEARNED, None),
    "watson_imagenet64_hybrid": ("ImageNet64", "cosine", 4000, LEARNED, 16384),
}
T = 24  # a linear process has no fewer than 21
SMALL = [
    "steps=[2,4]",
    "evaluation.images=2",
    "evaluation.samples=3",
    "evaluation.pictured=2",
    "features=classifier",  # 2,048 of Inception's features take more than some samples, and long
    "features.epochs=1",
    "features.width=4",
    "features.num_features=4",
    "features.batch_size=8",
    "trainer.accelerator=cpu",
]
OPENAI = ["process.T=8", "model.timesteps=8", "model.model_channels=8"]


@cache
def composed(name: str) -> dict[str, Any]:
    words = [f"experiment={name}", "model.path=x", "dataset.path=y"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        settings = OmegaConf.to_container(hydra.compose("config", words), resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    return {str(key): value for key, value in settings.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_watsons_set_up_is_the_published_one(name: str) -> None:
    dataset, process, timesteps, variances, images = PUBLISHED[name]
    c = composed(name)
    assert c["name"] == name
    assert c["dataset"]["_target_"].endswith(f".{dataset}")
    assert c["process"]["_target_"].endswith(f".Process.{process}")
    assert (c["process"]["T"], c["process"]["smallest_noise_level"]) == (timesteps, None)
    assert c["model"].get("timesteps", timesteps) == timesteps
    assert (c["pretrain"]["iterations"], c["finetune"]) == (0, None)
    assert c["steps"] == K
    assert {*c["schedule_optimizer"]} == WATSON
    assert [c["statistics"][key] for key in ("split", "images", "timesteps")] == ["train", images, "all"]
    evaluation = c["evaluation"]
    assert (evaluation["split"], evaluation["images"], evaluation["samples"]) == ("test", None, 50_000)
    assert evaluation["variances"] == variances
    assert c["variance"] in variances
    assert evaluation["decoders"] == ["additive", "improved_diffusion"]
    assert {*c["solver"]} == {"ancestral", "ddim"}
    assert {solver: evaluation["sample_steps"][solver] for solver in c["solver"]} == {"ancestral": K, "ddim": K}
    assert c["features"]["_target_"].endswith(".InceptionExtractor")
    assert c["features"]["split"] == "train"


def test_the_two_networks_on_cifar10_are_trained_on_by_the_loss_that_they_are_of() -> None:
    losses = {name: composed(name)["pretrain"]["loss"]["_target_"].rpartition(".")[2] for name in PUBLISHED}
    assert [*losses.values()] == ["SimpleLoss", "VlbLoss", "HybridLoss", "HybridLoss"]


def test_huangs_set_up_is_the_reconstruction() -> None:
    c = composed("huang_imagenet64")
    assert c["dataset"]["_target_"].endswith(".ImageNet64")
    assert (c["process"]["_target_"].rpartition(".")[2], c["model"]["image_size"]) == ("edm", 64)
    assert c["pretrain"]["iterations"] == 0
    searches = {"discretization_gradient", "discretization_dp"}
    assert {*c["schedule_optimizer"]} == searches | {"even", "karras", "tangent"}
    assert {*c["finetune"]["schedule_optimizer"]} == searches
    assert max(c["finetune"]["rounds"]) > 1
    assert c["finetune"]["steps"] == c["steps"] == c["evaluation"]["sample_steps"]["ddim"] == [4, 6, 8, 10]
    assert [*c["solver"]] == ["ddim"]
    assert (c["evaluation"]["samples"], len(c["evaluation"]["sample_seeds"])) == (50_000, 5)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples in batches of 4 rather than 128, and no eigenvectors of CIFAR-10's 3,072 dimensions."""
    monkeypatch.setattr("fewstep.sampling.ROWS", 4)
    monkeypatch.setattr("fewstep.judging.health.MOST_DIMENSIONS", 1024)


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cifar") / "cifar-10-batches-py"
    folder.mkdir()
    for name, content in cifar_files(4)[0].items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def imagenet64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagenet")
    imagenet_npz(folder, 2, compressed=False)
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


def adm_shapes(width: int, mult: list[int], size: int = 64) -> dict[str, tuple[int, ...]]:
    """Every tensor of EDM's class-conditional ADM with a block per level and attention in the middle alone."""
    shapes: dict[str, tuple[int, ...]] = {"map_label.weight": (4 * width, 1000)}

    def layer(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    def block(name: str, c: int, out: int, *, attends: bool = False, resampled: bool = False) -> None:
        layer(f"{name}.norm0", c)
        layer(f"{name}.conv0", out, c, 3, 3)
        layer(f"{name}.affine", 2 * out, 4 * width)
        layer(f"{name}.norm1", out)
        layer(f"{name}.conv1", out, out, 3, 3)
        if c != out:
            layer(f"{name}.skip", out, c, 1, 1)
        if resampled:
            shapes[f"{name}.conv0.resample_filter"] = shapes[f"{name}.skip.resample_filter"] = (1, 1, 2, 2)
        if attends:
            layer(f"{name}.norm2", out)
            layer(f"{name}.qkv", 3 * out, out, 1, 1)
            layer(f"{name}.proj", out, out, 1, 1)

    layer("map_layer0", 4 * width, width)
    layer("map_layer1", 4 * width, 4 * width)
    levels = [(f"{size >> level}x{size >> level}", width * factor) for level, factor in enumerate(mult)]
    layer(f"enc.{levels[0][0]}_conv", width, 3, 3, 3)
    c, skips = width, [width]
    for level, (name, out) in enumerate(levels):
        if level:
            block(f"enc.{name}_down", c, c, resampled=True)
            skips.append(c)
        block(f"enc.{name}_block0", c, out)
        c = out
        skips.append(c)
    block(f"dec.{name}_in0", c, c, attends=True)
    block(f"dec.{name}_in1", c, c)
    for level, (name, out) in reversed([*enumerate(levels)]):
        if level < len(levels) - 1:
            block(f"dec.{name}_up", c, c, resampled=True)
        for number in range(2):
            block(f"dec.{name}_block{number}", c + skips.pop(), out)
            c = out
    layer("out_norm", c)
    layer("out_conv", 3, c, 3, 3)
    return shapes


def edm_checkpoint(folder: Path) -> Path:
    """EDM's file for ImageNet64 with a thin network of random weights in it."""
    width, mult = 8, [1, 1, 1, 8]  # the last level has the 64 channels of one head
    tensors = random_tensors(adm_shapes(width, mult))
    for name, tensor in tensors.items():
        if name.endswith("resample_filter"):
            tensor.fill_(0.25)
    arguments = {"img_resolution": 64, "in_channels": 3, "out_channels": 3, "label_dim": 1000}
    arguments |= {"model_channels": width, "channel_mult": mult, "num_blocks": 1, "attn_resolutions": []}
    outer = {"img_resolution": 64, "img_channels": 3, "label_dim": 1000, "model_type": "DhariwalUNet"}
    path = folder / "edm-imagenet-64x64-cond-adm.pkl"
    path.write_bytes(edm_pickle(edm_precond(edm_network("DhariwalUNet", tensors, arguments, ""), outer, ""), ""))
    return path


@pytest.fixture
def results(fewstep: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """(experiment, checkpoint, data, overrides) → the rows of its report, which must be whole."""

    def run(name: str, model: Path, data: Path, *overrides: str) -> Any:
        words = [f"experiment={name}", f"model.path={model}", f"dataset.path={data}", *SMALL, *overrides]
        outcome = fewstep(*words, f"outputs={tmp_path / 'outputs'}")
        assert outcome.code in (0, None), outcome.err
        (report,) = (tmp_path / "outputs" / name / "report").iterdir()
        assert (report / "report.html").is_file()
        rows = read_results(report / "results.csv")
        assert rows.value.notna().all()
        return rows

    return run


def check_watsons_tables(rows: Any, dataset: str, timesteps: int, variances: list[str]) -> None:
    """Every cell of the two tables is there: bits/dim, the whole grid's too, and FID under both solvers."""
    bits = rows[rows.metric == "bits_per_dim"]
    cells = {(o, k) for o in WATSON for k in (2, 4)} | {("full", timesteps)}
    expected = {(*cell, v, d) for cell in cells for v in variances for d in ("additive", "improved_diffusion")}
    found = bits[["schedule_optimizer", "steps", "variance", "decoder"]].itertuples(index=False, name=None)
    assert {*found} == expected
    assert {*bits.split} == {"test"}
    fid = rows[(rows.metric == f"fid_{dataset}") & rows.steps.notna()]
    expected_fid = {(o, k, solver) for o in WATSON for k in (2, 4) for solver in ("ancestral", "ddim")}
    assert {*fid[["schedule_optimizer", "steps", "solver"]].itertuples(index=False, name=None)} == expected_fid


def test_watson_cifar10_simple(results: Callable[..., Any], cifar10: Path, tmp_path: Path) -> None:
    rows = results("watson_cifar10_simple", diffusers_folder(tmp_path), cifar10, f"process.T={T}")
    check_watsons_tables(rows, "cifar10", T, FIXED)


@pytest.mark.parametrize("name", ["watson_cifar10_vlb", "watson_cifar10_hybrid"])
def test_watson_cifar10_learned(results: Callable[..., Any], cifar10: Path, tmp_path: Path, name: str) -> None:
    rows = results(name, openai_checkpoint(tmp_path, 32, [1, 1, 2]), cifar10, *OPENAI)
    check_watsons_tables(rows, "cifar10", 8, LEARNED)


def test_watson_imagenet64_hybrid(results: Callable[..., Any], imagenet64: Path, tmp_path: Path) -> None:
    checkpoint = openai_checkpoint(tmp_path, 64, [1, 1, 2, 2])
    images = ["dataset.validation=4", "statistics.images=4"]
    rows = results("watson_imagenet64_hybrid", checkpoint, imagenet64, *OPENAI, *images)
    check_watsons_tables(rows, "imagenet64", 8, LEARNED)


def test_huang_imagenet64(results: Callable[..., Any], imagenet64: Path, tmp_path: Path) -> None:
    small = [
        "process.T=12",
        "dataset.validation=4",
        "statistics.images=4",
        "evaluation.sample_seeds=[0]",
        "finetune.steps=4",
        "finetune.rounds=[1,2]",
        "finetune.iterations=2",
        "finetune.warmup=0",
        "finetune.batch_size=4",
        "finetune.validate_every=2",
        "schedule_optimizer.discretization_gradient.search.iterations=2",
        "schedule_optimizer.discretization_gradient.search.batch_size=4",
        "schedule_optimizer.discretization_gradient.search.descents=1",
        "schedule_optimizer.discretization_gradient.search.starts=[even,dp]",
    ]
    rows = results("huang_imagenet64", edm_checkpoint(tmp_path), imagenet64, *small)
    searches = ("discretization_dp", "discretization_gradient")
    tuned = {f"{search}{rounds}" for search in searches for rounds in ("", "_rounds2")}
    fid = rows[(rows.metric == "fid_imagenet64") & rows.steps.notna()]
    assert {*fid.solver} == {"ddim"}
    assert {*fid[~fid.finetuned.astype(bool)].schedule_optimizer} == {"even", "karras", "tangent", *searches}
    assert {*fid[fid.finetuned.astype(bool)].schedule_optimizer} >= tuned & {*searches}
    assert {*rows.schedule_optimizer.dropna()} >= tuned
