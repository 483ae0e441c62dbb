"""`glimpse3d supabase`: what a Supabase project needs from this release.

It knows the files in `supabase/`; no project is asked, and nothing is changed.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from serve_app.cli.console import errors_as_sentences

console = Console(stderr=True)
supabase_app = typer.Typer(no_args_is_help=True, help="Set up a Supabase project.")


@supabase_app.callback()
def _group() -> None:
    """A group, even with one command in it."""


@supabase_app.command()
def sql(
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Only the policies that open reading to the anonymous key."),
    ] = False,
) -> None:
    """Print the SQL that sets a project up, for its SQL editor."""
    from serve_app.stores.migrations import demo_policies

    with errors_as_sentences(console):
        # Not through the console, which wraps lines.
        typer.echo(demo_policies() if demo else setup_sql(), nl=False)


def setup_sql() -> str:
    """All migrations in order, as one transaction.

    Raises:
        GlimpseError: the package was copied without its files.
    """
    from serve_app.stores.migrations import migration_files, newest_version, sql_file

    files = [
        f"\n-- {'=' * 93}\n-- {migration.version}_{migration.name}.sql\n\n{migration.sql}"
        for migration in migration_files()
    ]
    opening = sql_file("setup/opening.sql").format(version=newest_version())
    return opening + "".join(files) + sql_file("setup/closing.sql")
