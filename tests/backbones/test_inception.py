"""The Inception network against torch-fidelity's, its resize against the formula, and files that are not its."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewstep.backbones import inception
from fewstep.backbones.inception import Inception, resized, to_pixels
from fewstep.errors import UserError
from tests.inception_weights import random_weights, torch_fidelity


@pytest.fixture(scope="module")
def network(inception_weights: Path) -> Inception:
    return Inception.load(inception_weights)


def pixels(n: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8)


def images(of: Tensor) -> Tensor:
    return of.float() / 127.5 - 1


@pytest.fixture(scope="module")
def theirs(inception_weights: Path) -> nn.Module:
    """torch-fidelity's network with the same weights."""
    return torch_fidelity("feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(inception_weights)
    )


@pytest.mark.parametrize("size", [32, 64, 320])
def test_the_features_are_torch_fidelitys(size: int, network: Inception, theirs: nn.Module) -> None:
    given = pixels(2, size)
    with torch.inference_mode():
        (expected,) = theirs(given)
        found = network.features(images(given))
    assert found.shape == (2, 2048)
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "size"), [(5, 4, 7), (32, 32, 11), (3, 3, 3), (1, 2, 4)])
def test_the_resize_is_tensorflows_formula(height: int, width: int, size: int) -> None:
    """Pixel by pixel: output i reads position i H / size, between the pixels at its floor and one further."""
    given = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255
    expected = np.empty((2, 3, size, size))
    for i in range(size):
        for j in range(size):
            y, x = i * height / size, j * width / size
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            corners = [given[:, :, a, b].double().numpy() for a in (top, bottom) for b in (left, right)]
            u, v = y - top, x - left
            weights = [(1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v]
            expected[:, :, i, j] = sum(w * corner for w, corner in zip(weights, corners, strict=True))
    assert np.allclose(resized(given, size).numpy(), expected, rtol=0, atol=1e-3)


def test_pixels_are_rounded_not_truncated() -> None:
    levels = torch.arange(256)
    given = (levels / 127.5 - 1).reshape(1, 1, 16, 16)
    assert torch.equal(to_pixels(given).flatten(), levels.float())
    assert not torch.equal(((given + 1) * 127.5).to(torch.uint8).flatten(), levels.to(torch.uint8))
    assert torch.equal(to_pixels(given + 0.4 / 127.5).flatten(), levels.float())
    assert to_pixels(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]


def test_features_do_not_depend_on_the_company(network: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    given = images(pixels(3, 8))
    with torch.inference_mode():
        together = network.features(given)
        monkeypatch.setattr(inception, "CHUNK", 2)
        assert torch.allclose(network.features(given), together, rtol=1e-4, atol=1e-5)


def test_mixed_precision_does_not_touch_them(network: Inception) -> None:
    given = images(pixels(1, 8))
    with torch.inference_mode():
        expected = network.features(given)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(network.features(given), expected)


def test_weights_of_another_precision_are_refused(inception_weights: Path) -> None:
    with pytest.raises(UserError, match=r"float32 weights, .* made them torch.bfloat16; set trainer.precision"):
        Inception.load(inception_weights).bfloat16().features(torch.zeros(1, 3, 8, 8))


def test_a_file_with_counts_of_training_batches_is_the_same_network(network: Inception, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    assert "Mixed_7c.branch_pool.bn.num_batches_tracked" in torch.load(path)
    again = Inception.load(path)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_loading_draws_no_random_number(inception_weights: Path) -> None:
    before = torch.get_rng_state()
    network = Inception.load(inception_weights)
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def _spoilt(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tensors = dict(random_weights())
        change(tensors)
        torch.save(tensors, path)

    return write


class Payload:
    """What a pickle may hold: code that runs when it is read."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('the payload ran')",)


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (_spoilt(lambda t: t.pop("Mixed_6b.branch_pool.bn.bias")), "Mixed_6b.branch_pool.bn.bias is missing"),
        (_spoilt(lambda t: t.pop("fc.weight")), "fc.weight is missing"),
        (
            _spoilt(lambda t: t.update({"AuxLogits.weight": torch.ones(1)})),
            "AuxLogits.weight is not of this model",
        ),
        (_spoilt(lambda t: t.update({"fc.bias": torch.ones(1000)})), r"has shape \[1000\] instead of \[1008\]"),
        (_spoilt(lambda t: t.update({"fc.bias": torch.full([1008], torch.nan)})), "fc.bias holds NaN"),
        (lambda path: torch.save([1, 2], path), "not a dictionary of names and tensors"),
        (lambda path: torch.save({"fc.bias": 1.0}, path), "not a dictionary of names and tensors"),
        (lambda path: torch.save({"fc.bias": Payload()}, path), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"PK\x03\x04 half a file"), "cannot be read"),
    ],
)
def test_files_that_are_not_these_weights(write: Callable[[Path], None], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(UserError, match=sentence):
        Inception.load(path)
