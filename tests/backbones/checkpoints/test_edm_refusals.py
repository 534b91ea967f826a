"""What is no EDM pickle, or would run something, is one sentence, and nothing in it runs."""

import builtins
import importlib
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fewstep.backbones.checkpoints import edm, openai
from fewstep.errors import UserError
from fewstep.process import Process
from soak.checkpoints import Persistent, edm_namespace, edm_network, edm_pickle, edm_precond

SIZE = 4
PROCESS = Process.edm(20, 0.002, 80.0)
ARGUMENTS: dict[str, Any] = {
    "img_resolution": SIZE,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 8,
    "channel_mult": [1],
    "num_blocks": 1,
    "attn_resolutions": [],
}
OUTER = {"img_resolution": SIZE, "img_channels": 3, "model_type": "SongUNet"}
TENSORS = {"map_layer0.weight": torch.zeros(32, 8)}


class Calls:
    """A pickle of it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.called


def read(path: Path) -> Any:
    return edm.load(str(path), PROCESS, image_size=SIZE)


def read_pt(path: Path) -> Any:
    return openai.load(
        str(path),
        Process.cosine(20),
        timesteps=20,
        image_size=SIZE,
        in_channels=3,
        out_channels=6,
        model_channels=8,
        num_classes=None,
        rescale_timesteps=True,
        num_heads=1,
    )


def whole(source: str, tensors: Any = TENSORS, **change: Any) -> Persistent:
    return edm_precond(edm_network("SongUNet", tensors, ARGUMENTS | change, source), OUTER, source)


def test_the_source_in_a_file_runs_where_it_is_unpickled(write_edm: Callable[..., Path], marker: Path) -> None:
    """The control: the files of these tests are dangerous, and pickle runs what is in them."""
    path = write_edm("SongUNet", TENSORS, ARGUMENTS)
    with pytest.raises(UserError, match="do not fit the model"):
        read(path)
    assert not marker.exists()
    with edm_namespace():
        pickle.loads(path.read_bytes())
    assert marker.exists()


PAYLOADS: dict[str, Callable[[str], Calls]] = {
    "os.system": lambda command: Calls(os.system, command),
    "eval": lambda command: Calls(eval, f"__import__('os').system({command!r})"),
    "exec": lambda command: Calls(exec, f"__import__('os').system({command!r})"),
    "subprocess": lambda command: Calls(subprocess.check_call, ["sh", "-c", command]),
    "getattr": lambda command: Calls(getattr, command, "upper"),
    "open": lambda command: Calls(builtins.open, command.split()[-1], "w"),
    "importlib": lambda command: Calls(importlib.import_module, "this"),
    "torch.load": lambda command: Calls(torch.load, command.split()[-1]),
}


@pytest.mark.parametrize(
    "place", ["beside the network", "in its arguments", "as a tensor", "as the file", "as a layer"]
)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_planted_call_is_named_and_not_made(payload: str, place: str, tmp_path: Path, marker: Path) -> None:
    planted = PAYLOADS[payload](f"touch {marker}")
    if place == "in its arguments":
        ema = whole("", dropout=planted)
    elif place == "as a tensor":
        ema = whole("")
        ema.attributes["_modules"]["model"].attributes["_parameters"]["bias"] = planted
    elif place == "as a layer":
        ema = whole("")
        ema.attributes["_modules"]["model"].attributes["_modules"]["enc"] = planted
    else:
        ema = whole("")
    content = pickle.dumps(planted) if place == "as the file" else edm_pickle(ema, "")
    if place == "beside the network":
        with edm_namespace():
            content = pickle.dumps({"ema": ema, "augment_pipe": planted})
    path = tmp_path / "network.pkl"
    path.write_bytes(content)
    name = planted.called[0].__name__
    with pytest.raises(
        UserError, match=rf"names [\w.]*{name}, which such a file does not need; nothing in it was run"
    ):
        read(path)
    assert not marker.exists()


def test_a_planted_call_in_a_nested_storage_is_named_and_not_made(tmp_path: Path, marker: Path) -> None:
    nested = io.BytesIO()
    torch.save(Calls(os.system, f"touch {marker}"), nested, _use_new_zipfile_serialization=False)
    ema = whole("")
    loaded = Calls(torch.storage._load_from_bytes, nested.getvalue())
    bias = Calls(torch._utils._rebuild_tensor_v2, loaded, 0, (1,), (1,), False, {})
    ema.attributes["_modules"]["model"].attributes["_parameters"]["bias"] = bias
    path = tmp_path / "network.pkl"
    path.write_bytes(edm_pickle(ema, ""))
    with pytest.raises(UserError, match=r"names posix\.system, which tensors do not need; nothing in it was run"):
        read(path)
    assert not marker.exists()


def test_a_planted_call_in_a_state_dict_is_named_and_not_made(tmp_path: Path, marker: Path) -> None:
    for zipped in (True, False):
        path = tmp_path / "model.pt"
        torch.save({"a": Calls(os.system, f"touch {marker}")}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            UserError, match=r"names posix\.system, which tensors do not need; nothing in it was run"
        ):
            read_pt(path)
    assert not marker.exists()


def test_a_state_is_given_to_nothing_that_stands_in_for_another(tmp_path: Path) -> None:
    """BUILD on a function would set its defaults for everything that is read later."""
    path = tmp_path / "network.pkl"
    path.write_bytes(b"ctorch.storage\n_load_from_bytes\n}b.")
    with pytest.raises(UserError, match="gives a state to something that has none"):
        read(path)


def other_files(folder: Path) -> dict[str, Path]:
    paths = {name: folder / name for name in ("empty", "text", "zip", "safetensors", "folder")}
    paths["empty"].touch()
    paths["text"].write_text("This is not the file that you are looking for.\n" * 20)
    with zipfile.ZipFile(paths["zip"], "w") as archive:
        archive.writestr("a/b.txt", "c")
    save_file({"a": torch.zeros(3)}, paths["safetensors"])
    paths["folder"].mkdir()
    return {**paths, "absent": folder / "absent"}


@pytest.mark.parametrize("reader", [read, read_pt], ids=["pkl", "pt"])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("empty", "is empty"),
        ("text", "or a damaged one"),
        ("zip", "or a damaged one"),
        ("safetensors", "or a damaged one"),
        ("folder", "cannot be read: Is a directory"),
        ("absent", "cannot be read: No such file"),
    ],
)
def test_other_files_are_one_sentence(
    kind: str, sentence: str, reader: Callable[[Path], Any], tmp_path: Path
) -> None:
    path = other_files(tmp_path)[kind]
    with pytest.raises(UserError, match=sentence) as raised:
        reader(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_files_are_one_sentence(share: float, write_edm: Callable[..., Path], tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100)}, tmp_path / "model.pt")
    files = ((read, write_edm("SongUNet", TENSORS, ARGUMENTS)), (read_pt, tmp_path / "model.pt"))
    for reader, path in files:
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(UserError, match="or a damaged one"):
            reader(path)


def test_the_kinds_of_checkpoints_are_told_apart(write_edm: Callable[..., Path], tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="or a damaged one"):
        read(tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"or a damaged one|names "):
        read_pt(write_edm("SongUNet", TENSORS, ARGUMENTS))


CONTENTS: dict[str, tuple[Any, str]] = {
    "no network": ({}, "has no network under the name 'ema'"),
    "another preconditioning": (
        edm_precond(None, OUTER, "", "VPPrecond"),
        "with the preconditioning VPPrecond, but only EDMPrecond is known",
    ),
    "no model": (edm_precond(None, OUTER, ""), "holds nothing as its network"),
    "another network": (edm_precond(Persistent("Magic", "", {}), OUTER, ""), "holds Magic as its network"),
    "no arguments": (
        edm_precond(Persistent("SongUNet", "", vars(nn.Module())), OUTER, ""),
        "without its _init_kwargs",
    ),
    "an unknown argument": (whole("", magic=3), "made with magic, which is not known"),
    "another decoder": (whole("", decoder_type="skip"), "with the decoder skip"),
    "another encoder": (
        whole("", encoder_type="skip"),
        "encoder='skip' is unknown; it is one of standard, residual",
    ),
    "a nested argument": (whole("", channel_mult=[[1]]), "argument channel_mult is no number, text or list"),
    "far too many blocks": (whole("", num_blocks=10**9), "num_blocks is 1000000000, but which has 1 tensors"),
    "a width beyond all bounds": (whole("", model_channels=2**62), "does not describe a network"),
    "another size": (whole("", img_resolution=8), "image_size is 8 in the file and 4 in the configuration"),
    "text for a number": (whole("", model_channels="8"), "model_channels is '8', but must be an integer"),
    "noise levels that are not reached": (
        edm_precond(edm_network("SongUNet", TENSORS, ARGUMENTS, ""), OUTER | {"sigma_max": 50.0}, ""),
        r"made for noise levels from 0 to 50\.0; those of Process\.edm.* go from 0\.002 to 80",
    ),
    "no noise level": (
        edm_precond(edm_network("SongUNet", TENSORS, ARGUMENTS, ""), OUTER | {"sigma_data": "x"}, ""),
        "without its sigma_data|do not fit",
    ),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_not_known_is_refused(name: str, tmp_path: Path) -> None:
    ema, sentence = CONTENTS[name]
    path = tmp_path / "network.pkl"
    path.write_bytes(edm_pickle(ema, ""))
    with pytest.raises(UserError, match=sentence):
        read(path)


def test_a_network_inside_itself_is_refused(tmp_path: Path) -> None:
    ema = whole("")
    network = ema.attributes["_modules"]["model"]
    layer = network.attributes["_modules"]["map_layer0"]
    layer.attributes["_modules"] = {str(i): nn.ModuleDict() for i in range(2)}
    layer.attributes["_modules"]["1"] = layer.attributes["_modules"]["0"]
    path = tmp_path / "network.pkl"
    path.write_bytes(edm_pickle(ema, ""))
    with pytest.raises(UserError, match=r"no network's layer at map_layer0\.1"):
        read(path)


def test_a_tensor_longer_than_its_storage_is_refused(tmp_path: Path) -> None:
    for size, stride in (((10**6,), (1,)), ((10**12,), (0,)), ((-1,), (1,))):
        ema = whole("")
        stored_numbers = torch.zeros(3)._typed_storage()
        tensor = Calls(torch._utils._rebuild_tensor_v2, stored_numbers, 0, size, stride, False, {})
        ema.attributes["_modules"]["model"].attributes["_parameters"]["bias"] = tensor
        path = tmp_path / "network.pkl"
        path.write_bytes(edm_pickle(ema, ""))
        with pytest.raises(UserError, match=r"not made of stored numbers|damaged"):
            read(path)
