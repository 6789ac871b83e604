"""A table as CSV in a data URI, so that the download works without another file."""

from __future__ import annotations

import base64
import csv
import io

from forkdiv.report.tables import Table

MINUS = "\N{MINUS SIGN}"


def csv_of(table: Table) -> str:
    """Returns header and rows as CSV; the typographic minus sign becomes a hyphen."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows([text.replace(MINUS, "-") for text in row] for row in table.rows)
    return out.getvalue()


def data_uri(table: Table) -> str:
    # utf-8-sig: without a byte order mark, spreadsheets assume another encoding
    encoded = base64.b64encode(csv_of(table).encode("utf-8-sig")).decode("ascii")
    return f"data:text/csv;charset=utf-8;base64,{encoded}"
