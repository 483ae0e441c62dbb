"""A measured number, its unit and its budget; how a list of them is printed, and kept as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Row", "machine", "print_rows", "write_rows"]


@dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
        at_least: the budget is a floor, not a ceiling.
        error: standard error of the value, where one is known.
        details: what the value was made of, JSON-ready; for the file, not for the table.
    """

    name: str
    value: float
    unit: str
    budget: float | None = None
    at_least: bool = False
    error: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

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
        value = f"{row.value:.3g}" + ("" if row.error is None else f" ± {row.error:.1g}")
        table.add_row(row.name, value, row.unit, budget, row.verdict)
    Console(width=100).print(table)


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "ray": _version("ray"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def write_rows(path: Path, began: datetime, tables: Mapping[str, Sequence[Row]]) -> None:
    """All rows, by the title of their table, with where and when they were measured."""
    told = {
        "machine": machine(),
        "began": began.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "tables": {
            title: [asdict(row) | {"verdict": row.verdict} for row in rows]
            for title, rows in tables.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
