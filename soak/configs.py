"""The command's settings, spoilt: words on the command line and YAML files."""

import contextlib
import io
import json
import logging
import random
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from fewstep import __main__ as command
from fewstep.errors import UserError
from fewstep.pipeline import Pipeline
from soak.mutations import WEIRD, mutated_bytes, mutated_tree, mutated_yaml


class Configs:
    """The whole command, from words and YAML files to a pipeline that is about to run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "conf"
        (self.folder / "experiment").mkdir(parents=True)
        self.words: list[str] = []
        self.keys = [key for key in command._keys() if not key.startswith("hydra")]
        self.sound = (command.CONF / "experiment" / "digits.yaml").read_text()

    def spoil(self, draw: random.Random) -> None:
        experiment = self.sound.encode()
        words = [f"--config-dir={self.folder}", "experiment=mine", "process.T=40"]
        fault = draw.random()
        if fault < 0.15:
            experiment = mutated_bytes(experiment, draw)
        elif fault < 0.4:
            experiment = mutated_yaml(self.sound, draw)
        elif fault < 0.5:
            experiment = as_yaml(mutated_tree(yaml.safe_load(experiment), draw))
        else:
            words = words[1:] if fault < 0.6 else [words[0], words[2]]
            words += [self._word(draw) for _ in range(draw.choice((1, 1, 2)))]
        (self.folder / "experiment" / "mine.yaml").write_bytes(experiment)
        self.words = [*words, f"hydra.run.dir={self.folder}/job", f"hydra.sweep.dir={self.folder}/job"]

    def _word(self, draw: random.Random) -> str:
        value = draw.choice([*WEIRD[:-3], *WORDS])
        text = value if isinstance(value, str) else json.dumps(value)
        word = f"{draw.choice(('', '', '', '+', '++', '~'))}{draw.choice(self.keys)}={text[:2000]}"
        if draw.random() < 0.3:
            word = mutated_bytes(word.encode("utf-8", "surrogatepass"), draw).decode("utf-8", "replace")
        return word.replace("\x00", "") or "x"

    def read(self) -> None:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        error = io.StringIO()
        try:
            with (
                mock.patch.object(sys, "argv", ["fewstep", *self.words]),
                mock.patch.dict("os.environ", {"HYDRA_FULL_ERROR": "", command.TRACEBACK: ""}),
                mock.patch.object(Pipeline, "run", lambda _: "would run"),
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(error),
            ):
                command.main()
        except SystemExit as end:
            _check_end(end.code, error.getvalue())
            raise UserError(str(end.code)) from None
        finally:
            for handler in set(root.handlers) - set(handlers):
                handler.close()
            root.handlers[:], root.level = handlers, level
            shutil.rmtree(self.folder / "job", ignore_errors=True)


WORDS = (
    "[",
    "{",
    "}",
    "'",
    '"',
    "${",
    "${seed}",
    "${nothing}",
    "${outputs}",
    "${oc.env:HOME}",
    "${oc.env:NOTHING}",
    "???",
    "null",
    "[1,2",
    "{a:1}",
    "1,2",
    "choice(1,2)",
    "range(3)",
    "\\",
    "$",
    "=",
    "@",
    "!",
    "#",
    "[4,8,8]",
    "[1000000000]",
    "[" * 600 + "]" * 600,
    "fewstep.process.Process.edm",
    "fewstep.process",
    "math.pi",
    "math.sqrt",
    "int",
)


def _check_end(code: object, stderr: str) -> None:
    if code == 2 and "error: " in stderr:  # of the parser of options, where a word begins with a dash
        return
    assert isinstance(code, str), f"ended with {code}: {stderr[-300:]}"
    assert code.startswith("fewstep: ") and "\n" not in code, f"not one sentence: {code[:300]!r}"
    assert len(code) < 5000, f"a sentence of {len(code)} characters"
    code.encode("utf-8")


def as_yaml(tree: Any) -> bytes:
    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return text.encode("utf-8", "surrogatepass")
