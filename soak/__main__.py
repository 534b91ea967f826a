"""`python -m soak`: everything that a run must survive, and a table of what it did (soak/README.md)."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from soak.disk import disk
from soak.kill import kill
from soak.mutate import mutations
from soak.ranks import ranks
from soak.sweep import sweep
from soak.table import Part, table
from soak.together import together

PARTS = ("kill", "ranks", "sweep", "disk", "together", "mutate")


def main() -> None:
    """Run the parts asked for; status 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts; all of them if not given")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--sweep-kills", type=int, default=10, help="in sweeps, of every launcher")
    parser.add_argument("--rank-kills", type=int, default=20)
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    parser.add_argument("--workers", type=int, default=2, help="processes that read mutated files")
    parser.add_argument("--shorter", action="store_true", help="fewer sizes of disks")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="fewstep-soak-"))
    todo: dict[str, Callable[[], list[Part]]] = {
        "kill": lambda: kill(root / "kill", given.kills, given.seed),
        "sweep": lambda: sweep(root / "sweep", given.sweep_kills, given.seed),
        "ranks": lambda: ranks(root / "ranks", given.rank_kills, given.seed),
        "disk": lambda: disk(root / "disk", given.shorter),
        "together": lambda: together(root / "together"),
        "mutate": lambda: mutations(root / "mutate", given.mutations, given.workers),
    }
    found: list[Part] = []
    began = time.monotonic()
    for name in given.only:
        print(name, flush=True)
        (root / name).mkdir()
        try:
            found += todo[name]()
        except AssertionError as error:
            found.append(Part(name, "", 0, [str(error)]))
    print(f"\n{table(found)}\n\n{(time.monotonic() - began) / 60:.1f} minutes")
    if any(part.wrong for part in found):
        sys.exit(f"Something failed; what it left lies in {root}.")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
