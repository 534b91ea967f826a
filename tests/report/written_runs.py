"""Complete evaluations as the pipeline writes them, with made-up numbers, of what commands configure."""

import shlex
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import cache, reduce
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf

from fewstep.__main__ import CONF
from fewstep.discovery import named
from fewstep.results import Result, write_results
from fewstep.run import Run

Value = Callable[..., float]


@cache
def composed(command: str) -> dict[str, Any]:
    """The configuration of a command, `…` standing for a path."""
    words = [word.replace("…", "/data/x") for word in shlex.split(command)]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(hydra.compose("config", words), resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def changed(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with some of its dotted keys set anew."""
    copy = deepcopy(dict(config))
    for dotted, setting in settings.items():
        *path, key = dotted.split(".")
        reduce(dict.__getitem__, path, copy)[key] = setting
    return copy


class WrittenRuns:
    """The runs of one configuration in a folder of outputs.

    Args:
        outputs: the folder.
        config: the configuration.
        value: (metric, schedule optimizer, K, of the rest) → the measured number.
        device: where they were made.
    """

    def __init__(self, outputs: Path, config: dict[str, Any], value: Value, device: str = "cpu") -> None:
        self.root, self.config, self.value, self.device = outputs / config["name"], config, value, device
        datasets = {f"{found.__module__}.{found.__qualname__}": name for name, found in named("data").items()}
        self.of = {
            "dataset": datasets[config["dataset"]["_target_"]],
            "process": config["process"]["_target_"].rpartition(".")[2],
            "train_seed": config["seed"],
        }
        inception = config["features"]["_target_"].endswith("InceptionExtractor")
        self.fid = "fid_inception" if inception else f"fid_{self.of['dataset']}"
        self.weights = f"network-seed{config['seed']}"
        keys = ("dataset", "model", "pretrain", "seed")
        self._finish("pretrain", self.weights, {key: config[key] for key in keys})

    def write(self, *optimizers: str) -> None:
        """The evaluations of schedule optimizers, of their tuned networks, and of the whole grid."""
        for name in optimizers or self.config["schedule_optimizer"]:
            self._search(name)
            self._evaluate(name, name, self.weights)
            finetune = self.config["finetune"] or {}
            if name in (finetune.get("schedule_optimizer") or ()):
                for rounds in finetune["rounds"]:
                    row = name if rounds == 1 else f"{name}_rounds{rounds}"
                    self._finish("finetune", f"{row}-tuned", {"finetune": finetune})
                    self._evaluate(name, row, f"{row}-tuned")
        T = self.config["process"]["T"]
        rows = [self._bits("full", T, kind) for kind in self._kinds()]
        self._finish("evaluate", f"reference-seed{self.config['seed']}", self._judged(), rows)

    def _search(self, name: str) -> None:
        node = self.config["schedule_optimizer"][name]
        inputs = {}
        if node.get("objective"):
            statistics = self.root / "statistics" / "error"
            if not statistics.exists():
                self._finish("statistics", "error", {}, calls=1000)
            inputs = {"denoising_error": statistics / "results.csv"}
        config = {"schedule_optimizer": node, "statistics": self.config["statistics"]}
        self._finish("search", self._searched(name), config, inputs=inputs, calls=10)

    def _searched(self, name: str) -> str:
        return f"{name}-seed{self.config['seed']}"

    def _evaluate(self, name: str, row: str, weights: str, *, label: str = "") -> None:
        tuned = weights != self.weights
        variances = self.config["evaluation"]["variances"]
        config = self._judged() | {
            "weights": weights,
            "schedules": {variance: [self._searched(name)] for variance in variances},
            "solver": self.config["solver"],
        }
        config |= {"untuned": self.weights} if tuned else {}
        steps, seeds = self.config["steps"], self.config["evaluation"]["sample_seeds"]
        rows = [self._bits(row, K, kind, finetuned=tuned) for K in steps for kind in self._kinds()]
        sampled = self.config["evaluation"]["sample_steps"]
        for solver, node in self.config["solver"].items():
            for K in sampled.get(solver, steps):
                rows += [self._distance(row, K, solver, node.get("variance"), seed, tuned) for seed in seeds]
        label = label or (f"{row}-tuned" if tuned else row)
        self._finish("evaluate", f"{label}-seed{self.config['seed']}", config, rows)

    def _judged(self) -> dict[str, Any]:
        judged = {key: self.config[key] for key in ("evaluation", "features", "statistics")}
        precision = {"precision": self.config["trainer"]["precision"]}
        return judged | {"weights": self.weights, "trainer": precision}

    def _kinds(self) -> list[dict[str, str]]:
        evaluation = self.config["evaluation"]
        return [{"variance": v, "decoder": d} for v in evaluation["variances"] for d in evaluation["decoders"]]

    def _bits(self, name: str, K: int, kind: dict[str, str], *, finetuned: bool = False) -> Result:
        images = self.config["evaluation"]["images"] or (50_000 if self.of["dataset"] == "imagenet64" else 10_000)
        of = self.of | kind | {"finetuned": finetuned, "n_images": images, "split": "test"}
        value = self.value("bits_per_dim", name, K, **kind)
        return Result(
            **of, metric="bits_per_dim", schedule_optimizer=name, steps=K, value=value, standard_error=0.004
        )

    def _distance(
        self, name: str, K: int, solver: str, variance: str | None, seed: int, finetuned: bool
    ) -> Result:
        value = self.value(self.fid, name, K, solver=solver, seed=seed)
        of = self.of | {"solver": solver, "variance": variance, "sample_seed": seed, "finetuned": finetuned}
        samples = self.config["evaluation"]["samples"]
        judged = {"n_images": samples, "split": "train", "standard_error": 0.05}
        return Result(**of, **judged, metric=self.fid, schedule_optimizer=name, steps=K, value=value)

    def _finish(
        self,
        stage: str,
        name: str,
        config: dict[str, Any],
        rows: Iterable[Result] = (),
        inputs: dict[str, Path] | None = None,
        calls: int = 0,
    ) -> None:
        with Run(self.root / stage / name, config, inputs or {}) as run:
            if not run.complete:
                write_results(self.root / stage / name / "results.csv", rows)
                run.finish(network_calls=calls, device=self.device, seed=self.config["seed"])
