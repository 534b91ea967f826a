"""Whatever a file holds, reading it gives a valid result or an error sentence; `make soak` tries far more."""

from collections import Counter
from pathlib import Path

import pytest

from soak.mutate import SENTENCE, SHARES, VALID, mutate

FILES = {"configs": 30}  # each of the others is read in a few milliseconds


@pytest.mark.parametrize("kind", SHARES)
def test_a_mutated_file_is_a_sentence_or_a_valid_result(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    found = dict(mutate(kind, range(10**6, 10**6 + FILES.get(kind, 100)), tmp_path))
    assert {seed: came for seed, came in found.items() if came not in (SENTENCE, VALID)} == {}
    assert Counter(found.values())[SENTENCE] > len(found) / 3, "most files were not spoilt at all"
