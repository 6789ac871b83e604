"""What a person sees: lines and tables."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

WORDS = (
    "subset",
    "structure",
    "synthesis",
    "model",
    "name",
    "stage",
    "kind",
)  # columns that hold no numbers
BORDER = 3  # of a column: a space at each side and a line
LEAST_NAME = 12


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raises for the command line to end; rich would end the program itself."""
        raise BrokenPipeError(errno.EPIPE, "the reader of the output has ended")


# wide enough for a whole row where output goes to a file: cut numbers are worse than long lines
_console = _Console(highlight=False, soft_wrap=True)


def quiet_libraries() -> None:
    """Leave warnings and errors of the libraries, so that progress can be read between them."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def say(message: str) -> None:
    _console.print(message, markup=False)


@contextmanager
def live_line(text: Callable[[], str]) -> Iterator[None]:
    """A line below all others that shows `text()`, twice a second, while the block runs; nothing
    where output does not go to a terminal."""
    if not _console.is_terminal:
        yield
        return

    def shown() -> Text:
        return Text(text(), style="bold", no_wrap=True, overflow="ellipsis")

    with Live(get_renderable=shown, console=_console, refresh_per_second=2, transient=True):
        yield


def show_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str,
    console: Console | None = None,
) -> None:
    """Every cell whole: where the columns do not fit beside each other, the table goes on below
    under its first column. Names in the first column may be broken over lines."""
    wide = console or (_console if _console.is_terminal else Console(width=200, highlight=False))
    parts = _side_by_side(header, rows, wide.width)
    for at, columns in enumerate(parts):
        table = Table(title=title if at == 0 else None, title_justify="left")
        for column in columns:
            justify: Literal["left", "right"] = "left" if header[column] in WORDS else "right"
            is_name = column == 0 or header[column] in WORDS
            table.add_column(
                escape(header[column]), justify=justify, no_wrap=not is_name, overflow="fold"
            )
        for row in rows:
            # a name of the user's may look like markup
            table.add_row(*(escape(row[column]) for column in columns))
        wide.print(table)


def _side_by_side(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[list[int]]:
    """The columns of each part of a table that is no wider than `width`, the first one in all."""
    widths = [
        max([cell_len(name), *(cell_len(row[at]) for row in rows)]) + BORDER
        for at, name in enumerate(header)
    ]
    first = min(widths[0], max(width // 3, LEAST_NAME + BORDER))
    parts: list[list[int]] = [[0]]
    used = first + 1
    for at in range(1, len(header)):
        if used + widths[at] > width and len(parts[-1]) > 1:
            parts.append([0])
            used = first + 1
        parts[-1].append(at)
        used += widths[at]
    return parts
