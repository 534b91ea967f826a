"""Other people's moments: what `np.savez` wrote comes back, and what is no mean and covariance is refused."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewstep.artefacts.reference_file import read_reference_file
from fewstep.errors import UserError

D = 4


def moments(**changes: Any) -> dict[str, Any]:
    factor = np.random.default_rng(0).standard_normal((D, 9))
    return {"mu": np.arange(D) / 8, "sigma": factor @ factor.T / 9} | changes


def written(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_mu_and_sigma_come_back(tmp_path: Path) -> None:
    path, arrays = tmp_path / "cifar10.npz", moments(pixels=np.zeros(3))
    np.savez(path, **arrays)
    read = read_reference_file(path, D, 50_000)
    assert np.array_equal(read.mean.numpy(), arrays["mu"])
    assert np.allclose(read.covariance.numpy(), arrays["sigma"], rtol=1e-15)
    assert read.n == 50_000
    assert read_reference_file(path, D, None).n is None


def test_float32_sums_pass(tmp_path: Path) -> None:
    """A covariance of less than full rank has eigenvalues a little below zero in float32."""
    factor = np.random.default_rng(0).standard_normal((D, 2)).astype(np.float32)
    path = tmp_path / "reference.npz"
    np.savez(path, mu=np.zeros(D, np.float32), sigma=factor @ factor.T)
    assert read_reference_file(path, D, None).covariance.dtype.is_floating_point


def _asymmetric() -> np.ndarray:
    sigma = moments()["sigma"]
    sigma[0, 1] += 0.01
    return sigma


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (written({"mu": moments()["mu"]}), "holds no sigma; allowed is an .npz with mu and sigma"),
        (written({"sigma": moments()["sigma"]}), "holds no mu"),
        (written(moments(mu=np.zeros((D, 1)))), r"mu has shape \[4, 1\], not \[4\]"),
        (written(moments(sigma=np.eye(D + 1))), r"sigma has shape \[5, 5\], not \[4, 4\]"),
        (written(moments(mu=np.array([0, 1, np.nan, 2]))), "mu holds NaN or infinity"),
        (written(moments(sigma=np.full((D, D), np.inf))), "sigma holds NaN or infinity"),
        (written(moments(mu=np.arange(D))), "mu holds int64, not real numbers"),
        (written(moments(mu=np.array(["a"] * D))), "not real numbers"),
        (written(moments(mu=np.array([None] * D, dtype=object))), r"cannot be read as .npz \(ValueError"),
        (written(moments(sigma=_asymmetric())), "it is not symmetric"),
        (written(moments(sigma=np.diag([1.0, 1, 1, -0.01]))), "its least eigenvalue is -0.01, its largest 1"),
        (written(moments(sigma=-np.eye(D))), "its least eigenvalue is -1"),
        (written(moments())[:200], "cannot be read as .npz"),
        (b"", "cannot be read as .npz"),
        (b"mu, sigma", "cannot be read as .npz"),
    ],
)
def test_what_is_no_mean_and_covariance(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as raised:
        read_reference_file(path, D, None)
    assert str(path) in str(raised.value)


def test_a_single_array(tmp_path: Path) -> None:
    path = tmp_path / "reference.npy"
    np.save(path, np.zeros(D))
    with pytest.raises(UserError, match="it is a single array"):
        read_reference_file(path, D, None)


def test_a_byte_that_changed(tmp_path: Path) -> None:
    """The checksum of the archive's member does not fit any more."""
    content = bytearray(written(moments()))
    content[content.index(b"sigma.npy") + 200] ^= 1
    path = tmp_path / "reference.npz"
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="cannot be read as"):
        read_reference_file(path, D, None)


def test_an_object_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"

    class Payload:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return exec, ("raise SystemExit('the payload ran')",)

    np.savez(path, **moments(mu=np.array([Payload()] * D, dtype=object)))
    with pytest.raises(UserError, match="cannot be read"):
        read_reference_file(path, D, None)
