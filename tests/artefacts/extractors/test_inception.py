"""`features=inception`: its reference made once, or read, and what it refuses before any work."""

import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewstep.artefacts.extractors.inception import InceptionExtractor
from fewstep.artefacts.features import kept_features_of, load_kept_features
from fewstep.backbones.inception import Inception
from fewstep.data.digits import Digits
from fewstep.errors import UserError
from fewstep.metrics.frechet import FeatureMoments


class Coloured:
    """Five random training images of 4×4 pixels, fewer of the others."""

    name = "coloured"
    shape = (3, 4, 4)
    levels = 256

    def images(self, split: str) -> Tensor:
        seed, n = {"train": (0, 5), "validation": (1, 2), "test": (2, 3)}[split]
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (n, *self.shape), generator=generator) / 127.5 - 1

    def labels(self, split: str) -> Tensor:
        return torch.zeros(len(self.images(split)), dtype=torch.int64)


@pytest.fixture(scope="module")
def expected(inception_weights: Path) -> Callable[[str], Tensor]:
    network = Inception.load(inception_weights)

    def features(split: str) -> Tensor:
        with torch.inference_mode():
            return network.features(Coloured().images(split))

    return features


def test_the_reference_is_made_once_and_loaded(
    inception_weights: Path,
    expected: Callable[[str], Tensor],
    tmp_path: Path,
    trainer: Callable[..., Any],
    no_trainer: Callable[..., Any],
) -> None:
    extractor = InceptionExtractor(str(inception_weights), split="test")
    folder = extractor.make(tmp_path, Coloured(), {"name": "coloured"}, trainer)
    assert extractor.make(tmp_path, Coloured(), {"name": "coloured"}, no_trainer) == folder
    features = extractor.load(folder, Coloured())
    moments = FeatureMoments.of(expected("test"))
    assert (features.name, features.split, features.reference.n, features.accuracy) == (
        "inception",
        "test",
        3,
        None,
    )
    assert torch.allclose(features.reference.mean, moments.mean, rtol=1e-5, atol=1e-6)
    assert torch.allclose(features.reference.covariance, moments.covariance, rtol=1e-3, atol=1e-5)
    moved = tmp_path / "elsewhere.pth"
    moved.write_bytes(inception_weights.read_bytes())
    again = InceptionExtractor(str(moved), split="test")
    assert again.make(tmp_path, Coloured(), {"name": "coloured"}, no_trainer) == folder
    assert again.identity == extractor.identity
    with pytest.raises(AssertionError, match="computed again"):
        InceptionExtractor(str(moved), split="train").make(tmp_path, Coloured(), {"name": "coloured"}, no_trainer)


def test_kept_features_are_spread_over_the_split(
    inception_weights: Path,
    expected: Callable[[str], Tensor],
    tmp_path: Path,
    trainer: Callable[..., Any],
    no_trainer: Callable[..., Any],
) -> None:
    extractor = InceptionExtractor(str(inception_weights), reference=_reference(tmp_path, np.eye(2048)))
    made = extractor.make(tmp_path / "runs", Coloured(), {}, no_trainer)
    features = extractor.load(made, Coloured())
    folder = kept_features_of(tmp_path / "runs", made, features, Coloured(), {}, 3, trainer)
    assert kept_features_of(tmp_path / "runs", made, features, Coloured(), {}, 3, no_trainer) == folder
    kept = load_kept_features(folder)
    assert kept.dtype == torch.float32
    assert torch.allclose(kept, expected("train")[[0, 1, 3]], rtol=1e-4, atol=1e-5)


def _reference(folder: Path, sigma: np.ndarray, name: str = "reference.npz") -> str:
    path = folder / name
    np.savez(path, mu=np.arange(2048) / 2048, sigma=sigma)
    return str(path)


def test_a_reference_is_read_from_a_file(
    inception_weights: Path, tmp_path: Path, no_trainer: Callable[..., Any]
) -> None:
    variances = np.linspace(0, 1, 2048)
    path = _reference(tmp_path, np.diag(variances))
    extractor = InceptionExtractor(str(inception_weights), reference=path, reference_images=50_000)
    folder = extractor.make(tmp_path / "runs", Coloured(), {"name": "coloured"}, no_trainer)
    read = extractor.load(folder, Coloured()).reference
    assert read.n == 50_000
    assert np.array_equal(read.covariance.diag().numpy(), variances)
    unstated = InceptionExtractor(str(inception_weights), reference=path)
    other = unstated.make(tmp_path / "runs", Coloured(), {"name": "coloured"}, no_trainer)
    assert unstated.load(other, Coloured()).reference.n is None
    small = tmp_path / "small.npz"
    np.savez(small, mu=np.zeros(64), sigma=np.eye(64))
    with pytest.raises(UserError, match=r"mu has shape \[64\], not \[2048\]"):
        InceptionExtractor(str(inception_weights), reference=str(small)).make(tmp_path, Coloured(), {}, no_trainer)


def test_grey_images_are_refused(inception_weights: Path) -> None:
    extractor = InceptionExtractor(str(inception_weights))
    extractor.check(Coloured())
    with pytest.raises(UserError, match=r"RGB images, but those of digits have shape \[1, 8, 8\]; set features="):
        extractor.check(Digits())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"weights": "nowhere.pth"}, "features.weights is 'nowhere.pth', but there is no such file"),
        ({"reference": "nowhere.npz"}, "features.reference is 'nowhere.npz', but there is no such file"),
        ({"split": "tset"}, "features.split is 'tset'; allowed are train, validation, test"),
        ({"reference_images": 50_000}, "features.reference_images is 50000, but says how many images the file"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        InceptionExtractor(**settings)


def test_weights_are_downloaded_once(
    inception_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    asked = []

    def download(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url.rpartition("/")[2], hash_prefix))
        Path(path).write_bytes(inception_weights.read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert InceptionExtractor().identity == InceptionExtractor(str(inception_weights)).identity
    assert InceptionExtractor().identity["split"] == "train"
    assert asked == [("weights-inception-2015-12-05-6726825d.pth", "6726825d")]


def test_without_a_network_the_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(
        UserError, match=r"could not be downloaded from https://.*6726825d.pth .*features.weights="
    ):
        _ = InceptionExtractor().identity
