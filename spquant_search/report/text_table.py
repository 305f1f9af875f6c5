"""A table as one value, shown by rich, as Markdown, as HTML or as plain text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

# What Markdown takes for more than a letter, within a line; it leaves an underscore within a word alone.
_MARKDOWN = re.compile(r"[\\`*\[\]<>|~&$]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])")


def one_line(text: str) -> str:
    """Remove control characters and line breaks: safe in a terminal, a log and a table's cell."""
    visible = "".join(" " if unicodedata.category(letter).startswith(("C", "Z")) else letter for letter in text)
    return " ".join(visible.split())


def markdown_text(text: str) -> str:
    """Write any text, such as the name of a folder, so that Markdown shows it as it is, within a line."""
    shown = one_line(text) or repr(text)
    return _MARKDOWN.sub(r"\\\g<0>", shown)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """Cells ready to read. Columns are right-aligned but for those named in ``left``; ``notes`` stand below."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left: frozenset[str] = frozenset()

    def rich(self) -> Table:
        """Make rich's table, for a terminal."""
        table = Table(title=Text(one_line(self.title)), title_justify="left", box=box.SIMPLE_HEAD)
        table.show_edge, table.pad_edge, table.padding = False, False, (0, 1, 0, 0)
        table.show_footer = bool(self.total)
        for name, total in zip(self.header, self.total or self.header, strict=True):
            side: JustifyMethod = "left" if name in self.left else "right"
            # Too narrow a terminal folds the forms of deep networks between their groups, and nothing else.
            table.add_column(Text(name), footer=Text(total), justify=side, no_wrap=name not in ("bits", "levels"))
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        if self.notes:
            table.caption, table.caption_justify = Text("\n".join(one_line(note) for note in self.notes)), "left"
        return table

    def markdown(self) -> str:
        """Write a GitHub table, its total in bold, its notes as a list; without the title."""
        rule = tuple(":--" if name in self.left else "--:" for name in self.header)
        total = tuple(f"**{cell}**" if cell else "" for cell in self.total)
        rows = [_escaped(self.header), rule, *(_escaped(row) for row in self.rows), *([total] if total else [])]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        notes = ["", *(f"- {one_line(note)}" for note in self.notes)] if self.notes else []
        return "\n".join(lines + notes) + "\n"

    def html(self) -> str:
        """Write a table for a notebook: every name escaped, the title above, the notes below."""
        sides = ["left" if name in self.left else "right" for name in self.header]
        body = "".join(_html_row(row, "td", sides) for row in self.rows)
        total = f"<tfoot>{_html_row(self.total, 'th', sides)}</tfoot>" if self.total else ""
        notes = "".join(f"<li>{escape(one_line(note))}</li>" for note in self.notes)
        return (
            f"<p><b>{escape(one_line(self.title))}</b></p><table><thead>{_html_row(self.header, 'th', sides)}</thead>"
            f"<tbody>{body}</tbody>{total}</table>" + (f"<ul>{notes}</ul>" if notes else "")
        )

    def plain(self) -> str:
        """Align columns without any colour, frame or wrapping, for pipes and logs."""
        rows = [self.header, *self.rows, *([self.total] if self.total else [])]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.header))]
        notes = (one_line(note) for note in self.notes)
        return "\n".join([one_line(self.title), *(self._aligned(row, widths) for row in rows), *notes]) + "\n"

    def _aligned(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = zip(row, self.header, widths, strict=True)
        return "  ".join(
            cell.ljust(width) if name in self.left else cell.rjust(width) for cell, name, width in cells
        ).rstrip()


def _html_row(cells: Sequence[str], kind: str, sides: Sequence[str]) -> str:
    shown = (
        f'<{kind} style="text-align: {side}">{escape(one_line(cell))}</{kind}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(shown)}</tr>"


def _escaped(cells: Iterable[str]) -> tuple[str, ...]:
    return tuple(one_line(cell).replace("|", "\\|") for cell in cells)
