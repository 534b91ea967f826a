"""A judge that is not the one that was trained judges nothing."""

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl

from fewstep.artefacts.features import EXTRACTOR, REFERENCE, FeatureSettings, features_of, load_features
from fewstep.data.digits import Digits
from fewstep.errors import UserError

TRAINER = partial(
    pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False, logger=False
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return features_of(tmp_path, Digits(), {}, FeatureSettings(epochs=1, width=8, num_features=4), TRAINER)


@pytest.mark.parametrize("name", [EXTRACTOR, REFERENCE])
def test_a_file_that_changed_is_a_sentence(name: str, folder: Path) -> None:
    load_features(folder)
    path = folder / name
    sound = path.read_bytes()
    for spoilt in (sound[:100], b"", sound[:-1] + bytes([sound[-1] ^ 1])):
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match=rf"{name}\) is not the one that the run in"):
            load_features(folder)
    path.unlink()
    with pytest.raises(UserError, match=rf"there is no file .*{name}"):
        load_features(folder)
    path.write_bytes(sound)
    load_features(folder)
