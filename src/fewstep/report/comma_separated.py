"""Tables in CSV: the layout of the page, with numbers that a program reads."""

import pandas as pd

from fewstep.report.content import Content
from fewstep.report.printing import MINUS
from fewstep.report.tables import Cell, Table

HEADING = "table"
ERROR, DETAIL = " ±", ", detail"


def csv_tables(content: Content) -> str:
    """Every table of a page in one file, under the heading that it stands under; columns of one name are one.

    A column that has errors is followed by one of them, named alike with ±, and one that has second lines by one
    of these, named alike with `detail`.
    """
    tables = [(heading.text, table) for heading in content.headings for table in heading.tables]
    rows = [{HEADING: text} | _row(table, cells) for text, table in tables for cells in table.rows]
    columns = dict.fromkeys([HEADING, *(name for _, table in tables for name in _columns(table))])
    return pd.DataFrame(rows, columns=list(columns)).to_csv(index=False)


def _columns(table: Table) -> list[str]:
    rows = [_row(table, cells) for cells in table.rows]
    named = [key for name in table.header for key in (name, name + ERROR, name + DETAIL)]
    return [key for key in named if any(key in row for row in rows)]


def _row(table: Table, cells: list[Cell]) -> dict[str, str]:
    row = {}
    for name, cell in zip(table.header, cells, strict=False):
        row[name] = _readable(cell.text)
        row |= {name + ERROR: _readable(cell.error)} if cell.error else {}
        row |= {name + DETAIL: cell.detail} if cell.detail else {}
    return row


def _readable(text: str) -> str:
    """A number without the signs that are for people; other text as it is."""
    plain = text.replace(MINUS, "-").replace(",", "")
    try:
        float(plain)
    except ValueError:
        return text
    return plain
