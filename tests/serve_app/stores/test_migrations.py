"""The files in `supabase/`: what is written down of them, and where they are found."""

from __future__ import annotations

import tomllib
from pathlib import Path

from bench.schema import FILE, schema_file
from serve_app.stores.migrations import demo_policies, migration_files, sql_file

ROOT = Path(__file__).resolve().parents[3]


def test_schema_file_is_what_the_migrations_make(fresh_dsn: str) -> None:
    assert schema_file(fresh_dsn) == FILE.read_text(encoding="utf-8"), (
        "supabase/schema.sql is not what the migrations make: run `python -m bench.schema`"
    )


def test_no_migration_defines_a_function_twice() -> None:
    for file in migration_files():
        made = file.sql.split("create or replace function ")[1:]
        names = [text.split("(", 1)[0] for text in made]
        assert len(names) == len(set(names)), file.name


def test_a_wheel_brings_the_files_along() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packed = [
        (target, path.read_text(encoding="utf-8"))
        for target, patterns in project["tool"]["setuptools"]["data-files"].items()
        for pattern in patterns
        for path in sorted(ROOT.glob(pattern))
    ]
    share = "share/glimpse3d/supabase"
    assert packed == [
        *((f"{share}/migrations", file.sql) for file in migration_files()),
        (f"{share}/policies", demo_policies()),
        (f"{share}/setup", sql_file("setup/opening.sql")),
    ]
