"""A measured number, its unit and its budget; and how a list of them is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

__all__ = ["Row", "print_rows"]


@dataclass(frozen=True)
class Row:
    """One line. `at_least`: the budget is a floor, not a ceiling."""

    name: str
    value: float
    unit: str
    budget: float | None = None
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Whether the budget holds; empty without one."""
        if self.budget is None:
            return ""
        kept = self.value >= self.budget if self.at_least else self.value <= self.budget
        return "ok" if kept else "MISSED"


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """A table on standard output."""
    table = Table("measured", "value", "unit", "budget", "", title=title, title_justify="left")
    for row in rows:
        sign = ">=" if row.at_least else "<="
        budget = "" if row.budget is None else f"{sign} {row.budget:g}"
        table.add_row(row.name, f"{row.value:.3g}", row.unit, budget, row.verdict)
    Console(width=100).print(table)
