"""What a paper says, and what the numbers say to it."""

from collections.abc import Sequence
from typing import NamedTuple

from fewstep.report.differences import Difference

NEGLIGIBLE = 0.01  # bits/dim

SHOWN = "shown"
NEARLY = f"shown, but for differences of at most {NEGLIGIBLE} bits/dim"
PARTLY = "shown in part"
NOT_SHOWN = "not shown"
NOT_MEASURED = "not measured"


class Claim(NamedTuple):
    """A claim, the verdict, the figures behind it in a few words, and Markdown blocks with all of them."""

    said: str
    verdict: str
    short: str
    blocks: list[str]


def not_measured(said: str, missing: Sequence[str]) -> Claim:
    """The verdict on a claim for which no part has numbers."""
    return Claim(said, NOT_MEASURED, "", list(missing) or ["Nothing was measured that could show it."])


def share_verdict(holds: int, of: int) -> str:
    """All, most, or at most half of the comparisons."""
    if not of:
        return NOT_MEASURED
    if holds == of:
        return SHOWN
    return PARTLY if 2 * holds > of else NOT_SHOWN


def order_verdict(differences: Sequence[Difference]) -> str:
    """Whether differences are negative: all, all but negligible ones, most, or at most half."""
    exceptions = [one for one in differences if not one.mean < 0]
    if exceptions and all(one.mean <= NEGLIGIBLE for one in exceptions) and 2 * len(exceptions) < len(differences):
        return NEARLY
    return share_verdict(len(differences) - len(exceptions), len(differences))


def effect_verdict(better: int, worse: int, of: int) -> str:
    """Whether something helps: beyond the errors in most comparisons and never worse; more often than it harms."""
    if not of:
        return NOT_MEASURED
    if 2 * better > of and not worse:
        return SHOWN
    return PARTLY if better > worse else NOT_SHOWN
