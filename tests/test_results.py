"""Tidy results: what is written is what is read, and every cell means one thing."""

import csv
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.errors import UserError
from fewstep.results import COLUMNS, Result, read_results, write_results

words = st.one_of(st.none(), st.sampled_from(["digits", "elbo_dp", "fid, with a comma", 'a "quoted" word', "α"]))
numbers = st.floats(allow_nan=False, allow_infinity=False)
integers = st.one_of(st.none(), st.integers(0, 2**53))
results = st.builds(
    Result,
    metric=st.sampled_from(["bits_per_dim", "fid_digits"]),
    value=numbers,
    standard_error=st.one_of(st.none(), numbers),
    dataset=words,
    process=words,
    schedule_optimizer=words,
    steps=integers,
    nfe=integers,
    solver=words,
    variance=words,
    decoder=words,
    finetuned=st.one_of(st.none(), st.booleans()),
    train_seed=integers,
    sample_seed=integers,
    n_images=integers,
    split=words,
)


def plain(table: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()}
        for row in table.to_dict("records")
    ]


@given(rows=st.lists(results, max_size=5))
@settings(max_examples=60, deadline=None)
def test_round_trip_to_the_last_digit(rows: list[Result], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("results") / "results.csv"
    write_results(path, rows)
    assert plain(read_results(path)) == [asdict(row) for row in rows]


def test_the_file_itself(tmp_path: Path) -> None:
    rows = [
        Result(metric="bits_per_dim", value=1.5, standard_error=0.25, steps=4, finetuned=False, n_images=100),
        Result(metric="fid_digits", value=20.0, schedule_optimizer="data", finetuned=True, sample_seed=0),
    ]
    write_results(tmp_path / "results.csv", rows)
    with (tmp_path / "results.csv").open(newline="") as handle:
        header, *lines = csv.reader(handle)
    assert tuple(header) == COLUMNS
    first, second = (dict(zip(header, line, strict=True)) for line in lines)
    assert {key: cell for key, cell in first.items() if cell} == {
        "metric": "bits_per_dim",
        "value": "1.5",
        "standard_error": "0.25",
        "steps": "4",
        "finetuned": "false",
        "n_images": "100",
    }
    assert {key: cell for key, cell in second.items() if cell} == {
        "metric": "fid_digits",
        "value": "20.0",
        "schedule_optimizer": "data",
        "finetuned": "true",
        "sample_seed": "0",
    }


def test_columns_are_those_of_the_project() -> None:
    stated = (
        "dataset, process, schedule_optimizer, steps, nfe, solver, variance, decoder, finetuned, train_seed,"
        " sample_seed, metric, value, standard_error, n_images, split"
    )
    assert ", ".join(COLUMNS) == stated


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no results file at .*absent\.csv"):
        read_results(tmp_path / "absent.csv")


def test_missing_columns_are_named(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", [Result(metric="bits_per_dim", value=1.0)])
    table = pd.read_csv(tmp_path / "results.csv").drop(columns=["steps", "split"])
    table.to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(UserError, match="lacks the columns steps, split"):
        read_results(tmp_path / "results.csv")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\x00",
        b"metric,value\n1,2,3,4\n",
        b"metric,steps\nbits_per_dim,many\n",
        b"metric,finetuned\nbits_per_dim,perhaps\n",
    ],
)
def test_a_damaged_file_is_a_sentence(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "results.csv").write_bytes(text)
    with pytest.raises(UserError, match=r"results\.csv"):
        read_results(tmp_path / "results.csv")
