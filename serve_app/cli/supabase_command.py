"""`glimpse3d supabase`: what a Supabase project needs from this release.

It knows the files in `supabase/`; no project is asked, and nothing is changed.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.console import Console

from serve_app.cli.console import errors_as_sentences

console = Console(stderr=True)
supabase_app = typer.Typer(no_args_is_help=True, help="Set up a Supabase project.")

_HEADER = """\
-- Glimpse3D {version}: tables, functions, rights and buckets of a Supabase project, in one piece.
-- Paste it into the SQL editor and run it; or `psql -f` it. It may run any number of times, and
-- brings a project of an older release up to date. Then: glimpse3d doctor
begin;
set local client_min_messages = warning;
-- Rather stop than keep others waiting behind what waits here.
set local lock_timeout = '10s';

-- Names in `public` that another program has would be taken over.
do $$
declare
    v_name text;
begin
    if to_regproc('public.schema_version_v1') is not null then
        return;
    end if;
    foreach v_name in array array[{tables}] loop
        if to_regclass('public.' || v_name) is not null then
            raise exception 'There is a table % of another program in this project: use a project '
                'of its own for Glimpse3D.', v_name;
        end if;
    end loop;
    if to_regproc('public.touch_updated_at') is not null then
        raise exception 'There is a function touch_updated_at() of another program in this '
            'project: use a project of its own for Glimpse3D.';
    end if;
end
$$;
"""


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
    from serve_app.stores.migrations import migration_files, newest_version

    files = [
        f"\n-- {'=' * 93}\n-- {migration.version}_{migration.name}.sql\n\n{migration.sql}"
        for migration in migration_files()
    ]
    made = re.findall(r"create table if not exists public\.(\w+)", "".join(files))
    tables = ", ".join(f"'{name}'" for name in made)
    header = _HEADER.format(version=newest_version(), tables=tables)
    return header + "".join(files) + "\ncommit;\n"
