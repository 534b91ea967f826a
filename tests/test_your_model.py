"""docs/your_model.md: its commands and its code run, on tiny files in the formats that it is about."""

import importlib.util
import io
import logging
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fewstep import sampling
from fewstep.__main__ import main
from fewstep.backbones.song_unet import SongUNet
from fewstep.backbones.unet import UNet
from fewstep.judging import health
from fewstep.process import Process
from fewstep.schedule import Schedule
from soak.checkpoints import edm_network, edm_pickle, edm_precond, random_tensors
from soak.official_files import cifar_archive, cifar_files

PAGE = (Path(__file__).parents[1] / "docs" / "your_model.md").read_text(encoding="utf-8")
OPENAI, EDM, DIFFUSERS = "cifar10_uncond_50M_500K.pt", "edm-cifar10-32x32-uncond-vp.pkl", "ddpm-cifar10-32"
# A network of random weights has no smooth e(t), so that a regret of 0.01 would have all its timesteps measured.
SMALL = ["dataset.md5=null", "dataset.validation=20", "statistics.images=2", "statistics.regret=1", "threads=1"]
TINY = {
    "openai": ["model.model_channels=8", "model.timesteps=40", "process.T=40"],
    "edm": ["process.T=40"],
    "diffusers": [],
}
JUDGED = [
    *("steps=[2,4]", "evaluation.images=4", "evaluation.samples=12", "evaluation.sample_seeds=[0]"),
    *("evaluation.pictured=2", "features.epochs=1", "features.batch_size=20"),
    *("features.width=4", "features.num_features=4"),
]
NETWORK = {"image_size": 32, "in_channels": 3, "model_channels": 8, "channel_mult": [1], "num_res_blocks": 1}


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(beginning: str) -> list[str]:
    """The page's commands that begin so, each on one line."""
    lines = [line for block in fenced("sh") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.join(shlex.split(line, comments=True)) for line in lines if re.match(beginning, line)]


def tensors(network: nn.Module) -> dict[str, Tensor]:
    return random_tensors({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})


def write_stand_ins(folder: Path) -> None:
    """The page's files, of tiny networks with random weights and of random images."""
    (folder / "cifar-10-python.tar.gz").write_bytes(cifar_archive(cifar_files(20)[0]))
    torch.save(tensors(UNet(**NETWORK, attention_resolutions=[], out_channels=6, num_heads=4)), folder / OPENAI)
    arguments = {"img_resolution": 32, "in_channels": 3, "out_channels": 3, "model_channels": 8}
    arguments |= {"channel_mult": [1], "num_blocks": 1, "attn_resolutions": []}
    outer = {"img_resolution": 32, "img_channels": 3, "model_type": "SongUNet"}
    network = edm_network(
        "SongUNet", tensors(SongUNet(**NETWORK, attention_resolutions=[], out_channels=3)), arguments, ""
    )
    (folder / EDM).write_bytes(edm_pickle(edm_precond(network, outer, ""), ""))
    if importlib.util.find_spec("diffusers"):
        import diffusers

        torch.manual_seed(0)
        diffusers.UNet2DModel(
            sample_size=32,
            block_out_channels=[8],
            layers_per_block=1,
            down_block_types=["DownBlock2D"],
            up_block_types=["UpBlock2D"],
            norm_num_groups=4,
            attention_head_dim=4,
        ).save_pretrained(folder / DIFFUSERS)
        diffusers.DDPMScheduler().save_pretrained(folder / DIFFUSERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_stand_ins(folder)
    return folder


@pytest.fixture(autouse=True)
def as_a_user_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command sets in the environment, for errors to reach it, does not stay for the next one."""
    for name in ("HYDRA_FULL_ERROR", "FEWSTEP_TRACEBACK"):
        monkeypatch.setenv(name, "")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def run(command: str, added: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command of the page prints, with some words after it."""
    _, *words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", ["fewstep", *words, *added])
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        main()
    return out.getvalue()


def named(command: str) -> str:
    return re.findall(r"name=(\w+)", command)[0]


def test_the_page_has_a_command_for_every_kind_of_file() -> None:
    assert [named(command) for command in commands("fewstep ~experiment .*stage=search")] == [*TINY]
    assert len(commands("fewstep ~experiment")) == len(TINY) + 1
    assert commands("fewstep export")


@pytest.mark.parametrize("command", commands("fewstep ~experiment .*stage=search"), ids=named)
def test_a_search_writes_the_files_that_it_lists(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named(command) == "diffusers":
        pytest.importorskip("diffusers", reason="needs pip install 'fewstep[diffusers]'")
    monkeypatch.chdir(folder)
    title, *files = run(command, [*SMALL, *TINY[named(command)]], monkeypatch).splitlines()
    assert title == "Schedules:"
    assert [Schedule.load(Path(file)).steps for file in files] == 4 * [8, 16, 32]


def test_the_report_says_whether_they_are_any_good(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    # The covariance of 32×32 pixels takes long, whatever the model, and so do samples in batches of 128.
    monkeypatch.setattr(health, "MOST_DIMENSIONS", 0)
    monkeypatch.setattr(sampling, "ROWS", 4)
    (command,) = [line for line in commands("fewstep ~experiment") if "stage=" not in line]
    printed = run(command, [*SMALL, *TINY[named(command)], *JUDGED], monkeypatch)
    for name in ("even", "tangent", "karras", "elbo_dp"):
        assert f"\n{name} " in printed
    (results,) = Path().glob("outputs/edm/report/*/results.csv")
    for metric in ("bits_per_dim", "steps_within_0.1", "fid_cifar10"):
        assert f",{metric}," in results.read_text()


def test_the_notebooks_lines_and_the_exports_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = torch.randint(0, 256, (4, 3, 2, 2), generator=torch.Generator().manual_seed(0)) / 127.5 - 1
    notebook = {"network": lambda x_t, time: 0.9 * x_t, "images": images}
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        for block in fenced("python"):
            exec(block, notebook)
    assert Schedule.load(tmp_path / "elbo_dp_k008.json").steps == 8
    for command in commands("fewstep export"):
        printed = run(command, [], monkeypatch)
        assert printed or Path(command.rpartition(" --output ")[2]).is_file()


@pytest.mark.parametrize(
    ("name", "words", "said"), re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.*?) \|$", PAGE, re.MULTILINE)
)
def test_what_is_refused_is_refused_in_these_words(
    name: str, words: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "diffusers":
        pytest.importorskip("diffusers", reason="needs pip install 'fewstep[diffusers]'")
    monkeypatch.chdir(folder)
    for file, process in (("elbo_dp", Process.cosine(40)), ("edm", Process.edm(40))):
        Schedule.on_grid([0, 3, 9, 40], process).save(f"{file}_k008.json")
    if name == "export":
        monkeypatch.setattr(sys, "argv", ["fewstep", "export", *shlex.split(words)])
    else:
        (command,) = commands(f"fewstep ~experiment name={name} stage=search")
        monkeypatch.setattr(sys, "argv", [*shlex.split(command), *SMALL, *TINY[name], *shlex.split(words)])
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), pytest.raises(SystemExit) as exit_:
        main()
    assert said in str(exit_.value)
