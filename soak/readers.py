"""The readers that mutated files are fed to: each spoils a sound file, reads it, and checks the result."""

import contextlib
import json
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml

from fewstep.artefacts.statistics import estimator_class, load_statistics
from fewstep.backbones.unet import UNet
from fewstep.denoiser import Denoiser, EdmParameterisation
from fewstep.errors import UserError
from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.record import read_record, read_started, write_record, write_started
from fewstep.results import Result, read_results, write_results
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import KIND
from fewstep.variance import VARIANCES
from fewstep.weights import MODEL, WEIGHTS, load_model, save_model
from soak.checkpoint_readers import Edm, OpenAI
from soak.configs import Configs, as_yaml
from soak.datasets import Cifar, Mapped, Npz, Parquet, Pictures
from soak.mutations import as_json, bomb, mutated_bytes, mutated_safetensors, mutated_tree, mutated_yaml

T = 40


class Reader(Protocol):
    """One kind of file.

    `spoil` writes a mutated one into the folder that the reader was made with; `read` reads it and raises a
    UserError or an AssertionError where what was read is not valid.
    """

    def __init__(self, folder: Path) -> None: ...
    def spoil(self, draw: random.Random) -> None: ...
    def read(self) -> None: ...


def _model(out_channels: int = 1) -> Denoiser:
    backbone = UNet(
        image_size=4,
        in_channels=1,
        out_channels=out_channels,
        model_channels=8,
        num_res_blocks=1,
        channel_mult=[1],
        attention_resolutions=[],
        num_heads=1,
    )
    return Denoiser(backbone, Process.cosine(T, 1 / 16), EdmParameterisation(0.4, 2.0)).eval()


class Schedules:
    """`Schedule.load`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "schedule.json"
        processes = (Process.cosine(T), Process.linear(T, 1 / 16), Process.edm(T))
        self.sound = []
        for process in processes:
            for indices in ([0, 40], [0, 1, 3, 9, 40], list(range(41))):
                Schedule.on_grid(indices, process, {"search": "dp", "seed": 0}).save(self.path)
                self.sound.append(self.path.read_bytes())

    def spoil(self, draw: random.Random) -> None:
        sound = draw.choice(self.sound)
        if draw.random() < 0.4:
            self.path.write_bytes(mutated_bytes(sound, draw))
        else:
            self.path.write_bytes(as_json(mutated_tree(json.loads(sound), draw), draw))

    def read(self) -> None:
        schedule = Schedule.load(self.path)
        times = schedule.times
        assert times[0] == 0 and times[-1] == 1 and bool((times.diff() > 0).all()), "times"
        assert len(schedule.timesteps()) == schedule.steps and len(schedule.sigmas()) == schedule.steps + 1
        assert schedule.sigmas()[-1] == 0 and repr(schedule)
        schedule.save(self.path)
        assert Schedule.load(self.path) == schedule, "saved again it is another"


class Statistics:
    """`load` of the denoising error, and the tables that an objective makes of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "statistics.safetensors"
        levels = torch.randint(17, (6, 1, 4, 4), generator=torch.Generator().manual_seed(0))
        self.sound = []
        some, one_head, two_heads = (1, 7, 40), _model(1), _model(2)
        measured = [(one_head, range(1, T + 1), False), (one_head, some, False)]
        measured += [(two_heads, some, False), (two_heads, some, True)]
        for denoiser, indices, means in measured:
            estimator = estimator_class(KIND)(
                levels / 8 - 1,
                None,
                split="train",
                levels=17,
                indices=indices,
                seed=0,
                batch_size=8,
                means=means,
            )
            with torch.inference_mode():
                rows = [estimator.measure(denoiser, row) for row in range(len(estimator))]
            estimator.collect(denoiser.process, rows).save(self.path)
            self.sound.append(self.path.read_bytes())

    def spoil(self, draw: random.Random) -> None:
        sound = draw.choice(self.sound)
        spoil = mutated_bytes if draw.random() < 0.4 else mutated_safetensors
        self.path.write_bytes(spoil(sound, draw))

    def read(self) -> None:
        statistics = load_statistics(KIND)(self.path)
        sums = 1 if statistics.error_spread is not None else statistics.n_images
        assert statistics.error.shape == (len(statistics.indices), sums), "shapes"
        assert statistics.error_spread is None or bool((statistics.error_spread >= 0).all()), "spread"
        assert statistics.times.shape == statistics.indices.shape, "times"
        assert bool(torch.isfinite(statistics.error).all()) and bool((statistics.error >= 0).all()), "errors"
        schedule = Schedule.on_grid([0, *statistics.indices.tolist()], statistics.process)
        for kind in VARIANCES:
            if kind == "learned" and statistics.fraction is None:
                continue
            nats = ElboObjective(kind).image_values({KIND: statistics}, schedule)
            assert nats.shape == (sums,), f"shape of the nats of {kind}"
            assert not bool(nats.isnan().any()), f"nats of {kind}"


class Models:
    """`load_model`: model.yaml and weights.safetensors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "model"
        save_model(self.folder, _model(), (1, 4, 4), 17)
        self.model = (self.folder / MODEL).read_bytes()
        self.weights = (self.folder / WEIGHTS).read_bytes()

    def spoil(self, draw: random.Random) -> None:
        model, weights = self.model, self.weights
        fault = draw.random()
        if fault < 0.2:
            model = mutated_bytes(model, draw)
        elif fault < 0.38:
            model = mutated_yaml(model.decode(), draw)
        elif fault < 0.4:
            model = bomb(model.decode())
        elif fault < 0.6:
            model = as_yaml(mutated_tree(yaml.safe_load(model), draw))
        elif fault < 0.7:
            weights = mutated_bytes(weights, draw)
        else:
            weights = mutated_safetensors(weights, draw)
        (self.folder / MODEL).write_bytes(model)
        (self.folder / WEIGHTS).write_bytes(weights)

    def read(self) -> None:
        denoiser = load_model(self.folder)
        config = denoiser.backbone.config  # type: ignore[union-attr]
        shape = (2, config["in_channels"], config["image_size"], config["image_size"])
        with torch.inference_mode():
            predicted = denoiser(torch.zeros(shape), denoiser.process.grid[-1]).x0
        assert predicted.shape == shape, "a prediction of another shape"


class Records:
    """`run.json` and `started.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run"
        self.folder.mkdir()
        fields: dict[str, Any] = {"config": {"steps": [4]}, "inputs": {"w": {"path": "p", "sha256": "0"}}}
        fields["seconds"] = 1.5
        facts = {"git": None, "versions": {}, "device": "cpu", "seed": 0, "network_calls": 3, "facts": {}}
        write_record(self.folder, fields | facts | {"outputs": {"a": "0"}})
        write_started(self.folder, fields)
        self.sound = {name: (self.folder / name).read_bytes() for name in ("run.json", "started.json")}

    def spoil(self, draw: random.Random) -> None:
        for name, sound in self.sound.items():
            if draw.random() < 0.4:
                (self.folder / name).write_bytes(mutated_bytes(sound, draw))
            else:
                (self.folder / name).write_bytes(as_json(mutated_tree(json.loads(sound), draw), draw))

    def read(self) -> None:
        with contextlib.suppress(UserError):
            read_started(self.folder)
        read_record(self.folder)


class Results:
    """`read_results`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.csv"
        rows = [
            Result(metric="bits_per_dim", value=3.2, standard_error=0.1, steps=4, finetuned=False, split="test"),
            Result(metric="fid_digits", value=80.0, solver="ddim", steps=8, sample_seed=1, n_images=70),
        ]
        write_results(self.path, rows)
        self.sound = self.path.read_bytes()

    def spoil(self, draw: random.Random) -> None:
        self.path.write_bytes(mutated_bytes(self.sound, draw))

    def read(self) -> None:
        table = read_results(self.path)
        assert str(table["steps"].dtype) == "Int64" and str(table["value"].dtype) == "float64", "types"


READERS: dict[str, Callable[[Path], Reader]] = {
    "schedules": Schedules,
    "statistics": Statistics,
    "models": Models,
    "configs": Configs,
    "records": Records,
    "results": Results,
    "cifar": Cifar,
    "npz": Npz,
    "pictures": Pictures,
    "parquet": Parquet,
    "mapped": Mapped,
    "openai": OpenAI,
    "edm": Edm,
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Libraries' warnings about what is wrong with a file are not what is looked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
