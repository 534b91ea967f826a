"""`fewstep plan`: what the stages would cost, one configuration's or a sweep's."""

from collections.abc import Callable, Sequence
from typing import Any

from fewstep.config import Config
from fewstep.planning.plan import Plan
from fewstep.planning.table import printed

HELP = """\
fewstep plan [setting=value …]

Prints what `fewstep` with the same settings would cost, stage by stage: network calls, FLOPs, memory
and time on this device, from a timing of a few batches; and how many runs are complete already. The
jobs of a sweep are added up, what they share once. Nothing is run or written."""


def main(
    words: Sequence[str],
    compose: Callable[[Sequence[str], Callable[[Config], object]], None],
    build: Callable[[Any], Any],
) -> None:
    """Print the plan, or the help.

    Args:
        words: as `fewstep` takes them.
        compose: does a job with every configuration that words describe.
        build: instantiates a node of a configuration.
    """
    if {"-h", "--help"} & {*words}:
        print(HELP)
        return
    plan = Plan(build)
    compose(words, plan.add)
    if plan.jobs:
        print(printed(plan))
