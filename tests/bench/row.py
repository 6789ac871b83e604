"""One measured figure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """`value` in `unit`; a ratio says what it is `against`, and has been measured in one run."""

    name: str
    value: float
    unit: str
    against: str
