"""What a page holds, before it is Markdown, HTML, LaTeX or CSV."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from fewstep.report.tables import Table


class Plot(NamedTuple):
    """A figure and the sentence under it."""

    name: str
    caption: str
    figure: Figure


class Heading(NamedTuple):
    """A heading with sentences, plots and tables under it."""

    text: str
    sentences: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()


class Content(NamedTuple):
    """A page: its title, what it is about, what that shows, and the numbers."""

    title: str
    about: str
    findings: Sequence[str]
    headings: Sequence[Heading]
