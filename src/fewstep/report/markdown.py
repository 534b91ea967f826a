"""Tables, lists and pages in Markdown."""

from collections.abc import Sequence

from fewstep.report.content import Content, Heading
from fewstep.report.tables import Cell, Table


def markdown_table(table: Table) -> str:
    """A table with its caption above; cells that span rows stand in the first of them."""
    width = len(table.header)
    rows = [[_text(cell) for cell in row] for row in table.rows]
    lines = [table.header, ["---"] * table.headings + ["---:"] * (width - table.headings)]
    lines += [row + [""] * (width - len(row)) for row in rows]
    drawn = "\n".join(f"| {' | '.join(_escaped(text) for text in line)} |" for line in lines)
    return f"{table.caption}\n\n{drawn}" if table.caption else drawn


def markdown_page(content: Content) -> str:
    """A page; its plots lie beside it by their names."""
    found = ["## What it shows", *bullets(content.findings)] if content.findings else []
    told = [block for heading in content.headings for block in heading_blocks(heading)]
    return "\n\n".join([f"# {content.title}", content.about, *found, *told]) + "\n"


def heading_blocks(heading: Heading) -> list[str]:
    """A heading with what stands under it."""
    blocks = [f"## {heading.text}", *heading.sentences]
    for plot in heading.plots:
        blocks += [f"![{plot.caption}]({plot.name}.png)", f"*{plot.caption}*"]
    return blocks + [markdown_table(table) for table in heading.tables]


def bullets(sentences: Sequence[str]) -> list[str]:
    """A list as one block; none of no sentences."""
    return ["\n".join(f"- {sentence}" for sentence in sentences)] if sentences else []


def _text(cell: Cell) -> str:
    text = cell.text + (f" ± {cell.error}" if cell.error else "")
    text = f"**{text}**" if cell.bold and text else text
    return f"{text} ({cell.detail})" if cell.detail else text


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
