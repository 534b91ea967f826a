"""A judge that is not the one that was trained judges nothing."""

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl

from fewstep.artefacts.extractors.classifier import EXTRACTOR, ClassifierExtractor
from fewstep.artefacts.features import REFERENCE
from fewstep.data.digits import Digits
from fewstep.errors import UserError

TRAINER = partial(
    pl.Trainer, accelerator="cpu", devices=1, enable_model_summary=False, enable_progress_bar=False, logger=False
)


SETTINGS = ClassifierExtractor(epochs=1, width=8, num_features=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return SETTINGS.make(tmp_path, Digits(), {}, TRAINER)


@pytest.mark.parametrize("name", [EXTRACTOR, REFERENCE])
def test_a_file_that_changed_is_a_sentence(name: str, folder: Path) -> None:
    SETTINGS.load(folder, Digits())
    path = folder / name
    sound = path.read_bytes()
    for spoilt in (sound[:100], b"", sound[:-1] + bytes([sound[-1] ^ 1])):
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match=rf"{name}\) is not the one that the run in"):
            SETTINGS.load(folder, Digits())
    path.unlink()
    with pytest.raises(UserError, match=rf"there is no file .*{name}"):
        SETTINGS.load(folder, Digits())
    path.write_bytes(sound)
    SETTINGS.load(folder, Digits())
