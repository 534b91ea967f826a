"""Tidy results: every measured number is one row of a `results.csv`; tables and plots are views of it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from fewstep.errors import UserError
from fewstep.files import write_atomically


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measured number and what it is of. What does not apply stays `None` and is an empty cell.

    `schedule_optimizer` is `full` for the whole grid and `data` for the floor of a Fréchet distance;
    `nfe` is the number of network calls per image, `n_images` the images behind the value, `split` the
    data that judged it (for a Fréchet distance the reference).
    """

    metric: str
    value: float
    standard_error: float | None = None
    dataset: str | None = None
    process: str | None = None
    schedule_optimizer: str | None = None
    steps: int | None = None
    nfe: int | None = None
    solver: str | None = None
    variance: str | None = None
    decoder: str | None = None
    finetuned: bool | None = None
    train_seed: int | None = None
    sample_seed: int | None = None
    n_images: int | None = None
    split: str | None = None


COLUMNS = (
    "dataset",
    "process",
    "schedule_optimizer",
    "steps",
    "nfe",
    "solver",
    "variance",
    "decoder",
    "finetuned",
    "train_seed",
    "sample_seed",
    "metric",
    "value",
    "standard_error",
    "n_images",
    "split",
)
assert set(COLUMNS) == {field.name for field in fields(Result)}

_INTEGERS = ("steps", "nfe", "train_seed", "sample_seed", "n_images")
_TYPES = dict.fromkeys(_INTEGERS, "Int64") | {
    "finetuned": "boolean",
    "value": "float64",
    "standard_error": "float64",
}


def write_results(path: Path, rows: Iterable[Result]) -> None:
    """Write `rows` to a CSV file with exactly the columns `COLUMNS`, floats with all their digits."""
    table = pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS))
    for column in _INTEGERS:
        table[column] = table[column].astype("Int64")
    table["finetuned"] = table["finetuned"].map({True: "true", False: "false"})
    write_atomically(Path(path), table.to_csv(index=False))


def read_results(path: Path) -> pd.DataFrame:
    """Read a `results.csv`: integers as nullable `Int64`, `finetuned` as nullable `boolean`.

    Raises:
        UserError: the file is missing or damaged, or lacks a column.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no results file at {path}.")
    try:
        table = pd.read_csv(path, dtype=_TYPES)
    except ValueError as error:  # pandas's own errors are ValueErrors too
        raise UserError(f"The results file {path} is damaged: {error}.") from None
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; allowed is exactly {', '.join(COLUMNS)}.")
    return table[list(COLUMNS)]
