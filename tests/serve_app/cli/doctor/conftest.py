"""A place with nothing in the environment, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from serve_app.cli.doctor.doctor_command import doctor
from serve_app.settings import Environment

_APP = typer.Typer()
_APP.command()(doctor)


@dataclass(frozen=True)
class Examined:
    """What the command said with `--json`."""

    exit_code: int
    store: str | None
    checks: dict[str, dict[str, Any]]
    text: str

    def with_status(self, status: str) -> set[str]:
        """Names of the checks that went so."""
        return {name for name, check in self.checks.items() if check["status"] == status}

    def cross(self, name: str) -> str:
        """What a failed check found and its fix."""
        check = self.checks[name]
        assert check["status"] == "failed", check
        assert check["fix"], check
        return f"{check['found']} | {check['fix']}"

    def remark(self, name: str) -> str:
        """The same of a warning."""
        check = self.checks[name]
        assert check["status"] == "warning", check
        assert check["fix"], check
        return f"{check['found']} | {check['fix']}"


@pytest.fixture(autouse=True)
def empty_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, and no variable that the settings read."""
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def examine() -> Callable[[], Examined]:
    """Run `glimpse3d doctor --json`."""

    def run() -> Examined:
        result = CliRunner().invoke(_APP, ["--json"])
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        document = json.loads(result.stdout)
        assert document.keys() == {"ok", "store", "checks"}
        assert document["ok"] is (result.exit_code == 0)
        checks = {check["name"]: check for check in document["checks"]}
        assert len(checks) == len(document["checks"])
        for check in checks.values():
            assert check.keys() == {"name", "status", "found", "fix", "seconds"}
        return Examined(result.exit_code, document["store"], checks, result.output)

    return run


@pytest.fixture
def printed() -> Callable[[], str]:
    """Run `glimpse3d doctor`."""

    def run() -> str:
        return CliRunner().invoke(_APP, []).output

    return run
