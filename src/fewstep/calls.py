"""Counts of network calls before they are made, one call being one image through the network at one time."""

from dataclasses import dataclass, replace

EXACTLY, AT_MOST, ABOUT = "", "≤", "≈"
_MARKS = (EXACTLY, AT_MOST, ABOUT)  # the later, the less is said


@dataclass(frozen=True)
class Calls:
    """How many network calls some work takes.

    Attributes:
        forward: images that go forward alone.
        forward_backward: images that go forward and backward, as in training.
        batch: the most images of one forward pass, which decides the memory.
        mark: whether the counts are exact, a bound or an estimate: `EXACTLY`, `AT_MOST` or `ABOUT`.
    """

    forward: int = 0
    forward_backward: int = 0
    batch: int = 1
    mark: str = EXACTLY

    def __add__(self, other: "Calls") -> "Calls":
        return Calls(
            self.forward + other.forward,
            self.forward_backward + other.forward_backward,
            max(self.batch, other.batch),
            weaker(self.mark, other.mark),
        )

    @property
    def total(self) -> int:
        """Every image once, as `run.json` counts `network_calls`."""
        return self.forward + self.forward_backward

    def counted(self, total: int) -> "Calls":
        """What was counted of the same work once it was done."""
        share = self.forward_backward / self.total if self.total else 0.0
        backward = round(share * total)
        return replace(self, forward=total - backward, forward_backward=backward, mark=EXACTLY)

    def at_most(self) -> "Calls":
        """The same work, which may not all be done."""
        return replace(self, mark=weaker(self.mark, AT_MOST))


def weaker(mark: str, other: str) -> str:
    """The mark of a sum of two counts."""
    return max(mark, other, key=_MARKS.index)
