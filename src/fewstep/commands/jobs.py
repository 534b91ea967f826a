"""`fewstep jobs`: the jobs of a sweep, each composed and checked, none run."""

from collections.abc import Callable, Sequence

from fewstep.config import Config
from fewstep.sweep import differing

HELP = """\
fewstep jobs -m [setting=value,value …]

Lists the jobs of `fewstep` with the same settings: the configuration of each is composed, and its
settings are checked. Nothing is run or written."""


def main(
    words: Sequence[str],
    compose: Callable[[Sequence[str], Callable[[Config], object]], None],
    overrides: Callable[[], Sequence[str]],
) -> None:
    """Print the list, or the help.

    Args:
        words: as `fewstep` takes them.
        compose: does something with every configuration that words describe.
        overrides: the words that the configuration at hand was composed from.
    """
    if {"-h", "--help"} & {*words}:
        print(HELP)
        return
    jobs: list[Sequence[str]] = []
    compose(words, lambda config: jobs.append(overrides()))
    if jobs:
        names = differing(jobs)
        print("\n".join(f"{number:4d}  {name}" for number, name in enumerate(names)))
        print(f"{len(names)} job{'s' if len(names) > 1 else ''}; nothing was run.")
