"""Thousands of mutated files, each read in a worker that may crash, hang or run out of memory without harm."""

import multiprocessing
import random
import resource
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from soak.table import Part

SHARES = {  # per cent
    **{"schedules": 16, "statistics": 15, "models": 14, "configs": 14, "records": 4, "results": 3},
    **{"cifar": 5, "npz": 4, "pictures": 5, "parquet": 3, "mapped": 2},
    **{"openai": 6, "edm": 9},  # published checkpoints
}
LONGEST = 20.0  # seconds for one file
STARTING = 180.0  # seconds for a worker to import what it needs
MEMORY = 1 << 30  # bytes that reading one file may take beyond what the worker has
VALID, SENTENCE = "valid", "sentence"
LONGEST_SENTENCE = 5000


def mutate(kind: str, seeds: Sequence[int], folder: Path) -> Iterator[tuple[int, str]]:
    """Spoil and read one file per seed in this process; what came of each: `valid`, `sentence`, or a traceback."""
    from fewstep.errors import UserError
    from soak.readers import READERS, quiet

    with quiet():
        reader = READERS[kind](folder)
        for seed in seeds:
            reader.spoil(random.Random(f"{kind} {seed}"))
            came = VALID
            try:
                reader.read()
            except UserError as error:
                length = len(str(error))
                came = SENTENCE if 0 < length <= LONGEST_SENTENCE else f"a sentence of {length} characters"
            except Exception:  # whatever else is a finding
                came = traceback.format_exc(limit=-4)[-1500:]
            yield seed, came


def _work(connection: Connection, kind: str, seeds: Sequence[int], folder: str) -> None:
    import torch

    torch.set_num_threads(1)
    for _ in mutate(kind, range(-3, 0), Path(tempfile.mkdtemp(dir=folder))):
        pass  # whatever is imported on first use counts as the worker's own memory
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send((-1, VALID))
    for found in mutate(kind, seeds, Path(tempfile.mkdtemp(dir=folder))):
        connection.send(found)


def _feed(kind: str, seeds: list[int], folder: Path) -> dict[int, str]:
    """What came of every seed; a worker that crashes or hangs is replaced by another."""
    found: dict[int, str] = {}
    context = multiprocessing.get_context("spawn")
    while remaining := [seed for seed in seeds if seed not in found]:
        here, there = context.Pipe()
        worker = context.Process(target=_work, args=(there, kind, remaining, str(folder)), daemon=True)
        worker.start()
        there.close()
        patience = STARTING
        try:
            for seed in [-1, *remaining]:
                if not here.poll(patience):
                    found[seed] = f"hangs: no result within {patience:.0f} s"
                    break
                seed, came = here.recv()
                found[seed] = came
                patience = LONGEST
        except EOFError:
            worker.join()
            found[seed] = f"crashes: the process ended with {worker.exitcode}"
        worker.kill()
        worker.join()
        if found.pop(-1, VALID) != VALID:
            raise RuntimeError(f"a worker for {kind} cannot start")
    return found


def mutations(root: Path, number: int, workers: int) -> list[Part]:
    """`number` mutated files over all readers."""
    chunks = []
    for kind, share in SHARES.items():
        seeds = list(range(max(1, number * share // 100)))
        chunks += [(kind, seeds[first::workers]) for first in range(workers)]
    root.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found: dict[str, dict[int, str]] = {kind: {} for kind in SHARES}
    with ThreadPoolExecutor(workers) as pool:
        for (kind, _), came in zip(chunks, pool.map(lambda chunk: _feed(*chunk, root), chunks), strict=True):
            found[kind] |= came
            print(f"  {kind}: {len(found[kind])} files, {time.monotonic() - began:.0f} s so far", flush=True)
    return [_part(kind, came) for kind, came in found.items()]


def _part(kind: str, found: dict[int, str]) -> Part:
    counts = Counter(found.values())
    others = {came: seed for seed, came in sorted(found.items(), reverse=True) if came not in (VALID, SENTENCE)}
    wrong = [f"seed {seed} and {counts[came] - 1} more: {came}" for came, seed in others.items()]
    detail = f"{counts[SENTENCE]} error sentences, {counts[VALID]} valid results"
    return Part(f"mutated {kind}", detail, len(found), wrong)
