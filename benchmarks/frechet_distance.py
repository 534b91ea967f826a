"""How long does a Fréchet distance of 2048 features take, with its standard error, and against torchmetrics' form?

    python benchmarks/frechet_distance.py

Two threads. `distance` is one `frechet_distance` to a reference whose root is known, `with error` what
`FrechetDistance.compute` takes: eleven of them, ten for the jackknife, one on each core, and the root.
torchmetrics takes the eigenvalues of the unsymmetric product Σ_1 Σ_2. Covariances are those of random features
whose variances fall like 1/j, of 10,000 images each.

Exits with status 1 if the two distances differ by more than 1e-8 of their value, if torchmetrics' form is not at
least 3 times as slow as one distance with the root anew, or if the distance with its error takes 15 s or more.
"""

import sys
import time

import torch
from torchmetrics.image.fid import _compute_fid

from fewstep.metrics.frechet import FeatureMoments, FrechetDistance, frechet_distance

D, IMAGES, BATCH = 2048, 10_000, 1000
THREADS, LEAST_RATIO, MOST_SECONDS, MOST_DIFFERENCE = 2, 3.0, 15.0, 1e-8


def features(seed: int, shift: float) -> torch.Tensor:
    """[IMAGES, D], variance 1/j in direction j."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, D + 1, dtype=torch.float64).rsqrt()
    return torch.randn(IMAGES, D, generator=generator, dtype=torch.float64) * scale + shift


def main() -> None:
    torch.set_num_threads(THREADS)
    real, fake = FeatureMoments.of(features(0, 0.0)), features(1, 0.01)
    metric = FrechetDistance(real)
    for indices in torch.arange(IMAGES).split(BATCH):
        metric.update(fake[indices], indices)
    started = time.perf_counter()
    value, error = metric.compute()
    with_error = time.perf_counter() - started

    moments = FeatureMoments.of(fake)
    started = time.perf_counter()
    ours = frechet_distance(moments, real)
    known = time.perf_counter() - started
    fresh = FeatureMoments(real.mean, real.covariance, real.n)
    started = time.perf_counter()
    frechet_distance(moments, fresh)
    anew = time.perf_counter() - started
    started = time.perf_counter()
    theirs = _compute_fid(moments.mean, moments.covariance, real.mean, real.covariance).item()
    unsymmetric = time.perf_counter() - started

    print(f"distance              {known:6.2f} s, {anew:.2f} s with the reference's root anew")
    print(f"with error            {with_error:6.2f} s: {value:.6f} ± {error:.6f}")
    print(f"torchmetrics, eigvals {unsymmetric:6.2f} s: {unsymmetric / anew:.1f} times {anew:.2f} s")
    print(f"relative difference   {abs(ours - theirs) / theirs:.1e}")
    sound = abs(ours - theirs) <= MOST_DIFFERENCE * theirs
    sys.exit(not (sound and unsymmetric >= LEAST_RATIO * anew and with_error < MOST_SECONDS))


if __name__ == "__main__":
    main()
