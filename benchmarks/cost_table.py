"""The ELBO's cost table from a statistics file, T = 4000, for every variance kind: seconds and memory.

    python benchmarks/cost_table.py

Each kind is measured in a process of its own, from the file on disk to the finished table, imports aside. Exits
non-zero where a kind takes longer or more memory than the project promises.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from fewstep.objectives.elbo import ElboObjective
from fewstep.process import Process
from fewstep.statistics.fraction_sums import FractionSums
from fewstep.statistics.image_sums import DenoisingError
from fewstep.variance import VARIANCES

SECONDS, GIBIBYTES = 0.5, 0.4
POINTS = 17  # of a variance head whose fraction runs from -0.25 to 1.25


def write_statistics(path: Path, T: int, images: int) -> None:
    """Statistics of a network that does not exist, of the size and the magnitudes of one that does."""
    process, generator = Process.cosine(T), torch.Generator().manual_seed(0)
    level = process.noise_level(process.grid[1:]).square()
    spread = 1 + 0.1 * torch.rand(T, images, generator=generator, dtype=torch.float64)
    error = 64 * (level / (1 + level))[:, None] * spread
    coefficients = torch.rand(T, POINTS, 2, images, generator=generator, dtype=torch.float64)
    DenoisingError(
        process=process,
        indices=torch.arange(1, T + 1),
        error=error,
        decoder_of_process=error.clone(),
        decoder_of_error=error.clone(),
        decoder_of_fraction=error.clone(),
        fraction=FractionSums(
            centre=torch.full((T,), 0.5, dtype=torch.float64), coefficients=coefficients, mean=coefficients.mean(3)
        ),
        fitted_error=error.mean(1) / 64,
        prior=error[0].clone(),
        dimensions=64,
        levels=17,
        split="train",
        fitted_split="train",
        seed=0,
        calls=T * images,
    ).save(path)


def table(path: Path, variance: str) -> None:
    """Print the seconds and the gibibytes of one table."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    measured = DenoisingError.load(path)
    ElboObjective(variance).edge_costs({measured.kind: measured})
    seconds = time.perf_counter() - started
    print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--T", type=int, default=4000)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", nargs=2, metavar=("FILE", "VARIANCE"), help="measure this one alone")
    arguments = parser.parse_args()
    if arguments.table:
        table(Path(arguments.table[0]), arguments.table[1])
        return
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics.safetensors"
        write_statistics(path, arguments.T, arguments.images)
        print(f"T = {arguments.T}, {arguments.images} images, {torch.get_num_threads()} threads")
        print(f"{'variance':12}{'seconds, least':>16}{'most':>8}{'GiB':>8}")
        for variance in VARIANCES:
            command = [sys.executable, __file__, "--table", str(path), variance]
            runs = [subprocess.check_output(command, text=True).split() for _ in range(arguments.rounds)]
            seconds, memory = sorted(float(run[0]) for run in runs), max(float(run[1]) for run in runs)
            print(f"{variance:12}{seconds[0]:16.3f}{seconds[-1]:8.3f}{memory:8.2f}")
            failed |= seconds[0] > SECONDS or memory > GIBIBYTES
    if failed:
        raise SystemExit(f"slower than the promised {SECONDS} s, or above {GIBIBYTES} GiB")


if __name__ == "__main__":
    main()
