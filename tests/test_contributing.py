"""CONTRIBUTING.md's recipes, followed to the letter in a copy of the repository: files first, then commands."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from fewstep.data.base import data_std
from fewstep.schedule import Schedule
from fewstep.statistics.denoising_error import DenoisingError

ROOT = Path(__file__).parents[1]
T = 40
TINY = [
    f"process.T={T}",
    "pretrain.iterations=20",
    "pretrain.batch_size=32",
    "pretrain.validate_every=20",
    "model.backbone.model_channels=8",
    "model.backbone.num_groups=2",
    "model.backbone.channel_mult=[1]",
    "model.backbone.attention_resolutions=[]",
    "finetune=none",
    "statistics.images=16",
    "evaluation.images=16",
    "evaluation.samples=40",
    "evaluation.sample_seeds=[0]",
    "evaluation.variances=[optimal]",
    "features.epochs=1",
    "features.width=4",
    "features.num_features=4",
    "steps=[1,2,4]",
]


class Recipe:
    """One section: the files that it writes and the commands that it runs."""

    def __init__(self, section: str) -> None:
        self.title = section.partition("\n")[0].strip()
        named = re.findall(r"^`([^`\n]+)`\n\n```(?:python|yaml)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        self.files = dict(named)
        shells = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        self.commands = [line for shell in shells for line in shell.splitlines()]


def _recipes() -> list[Recipe]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Adding a method\n")[2]
    return [Recipe(section) for section in text.split("\n### ")[1:]]


RECIPES = {recipe.title: recipe for recipe in _recipes()}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and of conf/, with every recipe's files written into it."""
    copy = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", copy / "conf")
    for recipe in RECIPES.values():
        for name, content in recipe.files.items():
            path = copy / name
            assert not path.exists(), f"{recipe.title} would edit {name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    return copy


MORE = {"Add a solver": ["evaluation.sample_steps.ddim=[1,4]"]}
# One interpreter for all commands: loading torch and compiling take longer than what they do at this size.
PROGRAM = """
import json, sys
from fewstep.__main__ import main
for paths, words in json.loads(sys.argv[1]):
    sys.path[:0], sys.argv = paths, ["fewstep", *words]
    main()
"""


@pytest.fixture(scope="module")
def followed(house: Path) -> Path:
    """The house after every section's only command was run in it at tiny size."""
    calls = []
    for title, recipe in RECIPES.items():
        (command,) = recipe.commands
        words = shlex.split(command)
        at = words.index("fewstep")
        paths = [str(house / word.partition("=")[2]) for word in words[:at]]
        calls.append([paths, [*words[at + 1 :], *TINY, *MORE.get(title, [])]])
    environment = {**os.environ, "PYTHONPATH": str(house / "src"), "PYTHONSAFEPATH": "1"}
    called = [sys.executable, "-c", PROGRAM, json.dumps(calls)]
    done = subprocess.run(called, cwd=house, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return house


def _outputs(house: Path, title: str) -> Path:
    (command,) = RECIPES[title].commands
    named = [word.partition("=")[2] for word in shlex.split(command) if word.startswith("name=")]
    return house / "outputs" / (named[0] if named else "digits")


def _schedule(outputs: Path, schedule_optimizer: str, K: int) -> Schedule:
    (path,) = outputs.glob(f"search/*/schedules/{schedule_optimizer}_k{K:03d}.json")
    return Schedule.load(path)


def _statistics(outputs: Path) -> DenoisingError:
    (path,) = outputs.glob("statistics/denoising_error-train-*/statistics.safetensors")
    return DenoisingError.load(path)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_one_python_file_and_one_yaml(title):
    assert sorted(Path(name).suffix for name in RECIPES[title].files) == [".py", ".yaml"]


def test_every_kind_that_is_promised_has_a_recipe():
    assert {"Add an objective", "Add a search", "Add a solver", "Add a dataset"} <= RECIPES.keys()


def test_the_new_objective_is_minimised_exactly(followed):
    outputs = _outputs(followed, "Add an objective")
    error = _statistics(outputs).error.mean(1)
    # Two steps, the node at grid index n: n² e(t_n) + (T − n)² e(t_T), by brute force.
    n = torch.arange(1, T)
    best = int(n[(n**2 * error[n - 1] + (T - n) ** 2 * error[-1]).argmin()])
    assert _schedule(outputs, "squared_length_dp", 2).indices == [0, best, T]
    assert _schedule(outputs, "squared_length_dp", 1).indices == [0, T]


def test_the_new_search_finds_the_optimum_where_it_draws_all_there_is(followed):
    outputs = _outputs(followed, "Add a search")
    # 500 draws of one node out of 39: it misses the best one with probability 2e-6.
    assert _schedule(outputs, "elbo_random", 2) == _schedule(outputs, "elbo_dp", 2)
    assert _schedule(outputs, "elbo_random", 4).provenance["search"]["tries"] == 500


def test_the_new_solver_agrees_with_ddim_in_one_step_alone(followed):
    outputs = _outputs(followed, "Add a solver")
    (path,) = outputs.glob("evaluate/even-*/results.csv")
    rows = pd.read_csv(path).query("metric == 'fid_digits'").set_index(["solver", "steps"])
    # One step is x̂_0 of the same noise, whatever the solver.
    assert rows.value["renoise", 1] == rows.value["ddim", 1]
    assert rows.value["renoise", 4] != rows.value["ddim", 4]
    assert rows.nfe["renoise", 4] == 4


def test_the_new_dataset_reaches_weights_and_statistics(followed):
    outputs = _outputs(followed, "Add a dataset")
    assert _statistics(outputs).levels == 256
    (run,) = outputs.glob("pretrain/*/run.json")
    assert json.loads(run.read_text())["config"]["model"]["parameterisation"]["sigma_data"] == 0.632
    assert _schedule(outputs, "elbo_dp", 4).steps == 4


def test_the_new_dataset_states_its_own_standard_deviation():
    name = "src/fewstep/data/patches.py"
    namespace: dict[str, type] = {"__name__": "patches"}
    exec(RECIPES["Add a dataset"].files[name], namespace)
    images = namespace["Patches"]().images("train")
    assert data_std(images) == pytest.approx(0.632, abs=5e-4)


def test_a_method_outside_the_repository_is_found(followed):
    outputs = _outputs(followed, "Outside this repository")
    nodes = torch.arange(0, 5).div(4).sqrt().mul(T).round().int().tolist()
    assert _schedule(outputs, "square_root", 4).indices == nodes
