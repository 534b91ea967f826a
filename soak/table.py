"""What a part of the soak found, and the table of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Part:
    """One line of the table.

    Attributes:
        name: what was done to the program.
        detail: how, and what came out.
        cases: how often.
        wrong: what should not have been, a sentence each.
        skipped: why it was not done.
    """

    name: str
    detail: str
    cases: int
    wrong: Sequence[str] = field(default_factory=list)
    skipped: str | None = None

    @property
    def result(self) -> str:
        """In a word."""
        if self.skipped:
            return "skipped"
        return f"{len(self.wrong)} failed" if self.wrong else "passed"


def table(parts: Sequence[Part]) -> str:
    """Markdown, and below it everything that went wrong."""
    lines = ["| what was done | cases | result | detail |", "|---|---|---|---|"]
    lines += [f"| {p.name} | {p.cases} | {p.result} | {p.skipped or p.detail} |" for p in parts]
    lines += [f"\nFAILED {p.name}: {sentence}" for p in parts for sentence in p.wrong]
    return "\n".join(lines)
