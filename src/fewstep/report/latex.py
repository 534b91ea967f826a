"""Tables in LaTeX, for the package booktabs."""

from fewstep.report.content import Content
from fewstep.report.tables import Cell, Table

LONG = 40  # characters from which a cell is a paragraph
_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "−": "$-$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "∞": r"$\infty$",
        "≤": r"$\leq$",
        "σ": r"$\sigma$",
        "η": r"$\eta$",
        "ρ": r"$\rho$",
        "…": r"\dots{}",
        "–": "--",
        "’": "'",
    }
)


def latex_tables(content: Content) -> str:
    """Every table of a page, one below the other, then what is said of them."""
    blocks = [f"% {content.title}; needs \\usepackage{{booktabs}}", _escaped(content.about)]
    for heading in content.headings:
        blocks += [latex_table(table) for table in heading.tables]
        blocks += [_escaped(sentence) for sentence in heading.sentences]
    return "\n\n".join(blocks) + "\n"


def latex_table(table: Table) -> str:
    """A table with its caption above."""
    width = len(table.header)
    rows = [[*row, *[Cell("")] * (width - len(row))] for row in table.rows]
    lines = [" & ".join(_escaped(name) for name in table.header), *(" & ".join(map(_cell, row)) for row in rows)]
    columns = "".join(_column(table, i) for i in range(width))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(table.caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rf"{lines[0]} \\",
            r"\midrule",
            *(rf"{line} \\" for line in lines[1:]),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _column(table: Table, i: int) -> str:
    if any(len(row[i].text) > LONG for row in table.rows if i < len(row)):
        return r"p{0.3\linewidth}"
    return "l" if i < table.headings else "r"


def _cell(cell: Cell) -> str:
    text = _escaped(cell.text + (f" ± {cell.error}" if cell.error else ""))
    text = rf"\textbf{{{text}}}" if cell.bold and text else text
    return f"{text} ({_escaped(cell.detail)})" if cell.detail else text


def _escaped(text: str) -> str:
    return text.translate(_SPECIAL)
