"""`.env.example` and the settings agree: names, order, defaults, and no secrets."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from serve_app.settings import Environment

EXAMPLE = Path(__file__).parents[1] / ".env.example"


class Line(NamedTuple):
    """One variable."""

    name: str
    value: str
    #: Lines of comment right above it.
    explained: int


def lines() -> list[Line]:
    found: list[Line] = []
    explained = 0
    for text in EXAMPLE.read_text(encoding="utf-8").splitlines():
        variable = re.fullmatch(r"([A-Z][A-Z0-9_]*)=(.*)", text)
        if variable:
            found.append(Line(variable[1], variable[2], explained))
        else:
            assert not text or text.startswith("# "), text
        explained = explained + 1 if text.startswith("# ") and not variable else 0
    return found


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory without `.env`, and an environment without our variables."""
    for name in Environment.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_variable_is_there_in_order() -> None:
    assert [line.name for line in lines()] == [name.upper() for name in Environment.model_fields]


def test_every_variable_is_explained_in_one_or_two_lines() -> None:
    for line in lines():
        assert 1 <= line.explained <= 2, line.name


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.name)
def test_it_holds_the_default(line: Line, bare: Path) -> None:
    (bare / ".env").write_text(f"{line.name}={line.value}\n")
    name = line.name.lower()
    assert getattr(Environment(), name) == Environment.model_fields[name].get_default(
        call_default_factory=True
    )


def test_copied_unchanged_it_changes_nothing(bare: Path) -> None:
    before = Environment()
    shutil.copy(EXAMPLE, bare / ".env")
    assert Environment() == before


def test_it_holds_no_secret() -> None:
    secrets = {name.upper() for name, field in Environment.model_fields.items() if not field.repr}
    assert {"SUPABASE_SERVICE_ROLE_KEY", "DATABASE_URL", "WEBHOOK_SECRET"} <= secrets
    held = {line.name: line.value for line in lines()}
    assert not any(held[name] for name in secrets)
    assert not re.search(r"\beyJ|sb_secret_\w|whsec_\w", EXAMPLE.read_text(encoding="utf-8"))
