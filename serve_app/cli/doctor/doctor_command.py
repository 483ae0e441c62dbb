"""The command: runs the checks of what the environment names, store and weights; prints them.

It knows no check.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from serve_app.cli.console import errors_as_sentences
from serve_app.cli.doctor.checks import Check, Status, Step, run_steps
from serve_app.cli.doctor.weights_check import check_weights

if TYPE_CHECKING:
    from serve_app.settings import Environment

_MARKS = {
    Status.OK: "[green]✓[/]",
    Status.WARNING: "[yellow]![/]",
    Status.FAILED: "[red]✗[/]",
    Status.SKIPPED: "[dim]-[/]",
}
#: Shorter ones would be found in ordinary words, and are no keys.
_LEAST_SECRET = 8

console = Console()


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check the store that the environment names: reachable, complete, guarded, and it works; and
    whether the weights of the chosen engines are here.

    What is written for that is deleted again. Exit code 0: no cross. 1: there is one.
    """
    from pydantic_settings import SettingsError

    from serve_app.settings import Environment

    show: Callable[[Check], None] = (lambda _: None) if as_json else _print
    store: str | None = None
    try:
        env = Environment()
    except (ValidationError, SettingsError) as error:  # then nobody knows which store is meant
        checks = [*_unreadable(error)]
        for check in checks:
            show(check)
    else:
        store = "supabase" if env.supabase_url.strip() else "postgres"
        with errors_as_sentences(Console(stderr=True)):
            checks = asyncio.run(_examine(env, show))
    is_ok = all(check.status is not Status.FAILED for check in checks)
    if as_json:
        document = {"ok": is_ok, "store": store, "checks": [asdict(check) for check in checks]}
        typer.echo(json.dumps(document, indent=2))
    if not is_ok:
        raise typer.Exit(1)


def _unreadable(error: ValueError) -> Iterator[Check]:
    faults = [str(error)]  # of a value that is not even JSON
    if isinstance(error, ValidationError):
        faults = [f"{'.'.join(map(str, f['loc'])).upper()}: {f['msg']}" for f in error.errors()]
    for found in faults:
        fix = "Correct it in the environment or in .env."
        yield Check("environment", Status.FAILED, found, fix, 0.0)


async def _examine(env: Environment, show: Callable[[Check], None]) -> list[Check]:
    from serve_app.cli.doctor.postgres_checks import PostgresRound
    from serve_app.cli.doctor.supabase_checks import SupabaseRound

    checks = []
    chosen = SupabaseRound if env.supabase_url.strip() else PostgresRound
    async with chosen.steps_of(env) as steps:
        weights = Step("weights", lambda: check_weights(env.engine_choice()))
        async for raw in run_steps([*steps, weights]):
            check = _without_secrets(raw, env)
            checks.append(check)
            show(check)
    return checks


def _without_secrets(check: Check, env: Environment) -> Check:
    """Keys and passwords that an error's text may have brought along are taken out."""
    secrets = [env.supabase_service_role_key.strip(), env.supabase_anon_key.strip()]
    if not env.supabase_url.startswith("http"):  # a key in the wrong place
        secrets.append(env.supabase_url.strip())
    _, _, after = env.database_url.partition("://")
    userinfo, at, _ = after.rpartition("@")
    secrets.append(userinfo.partition(":")[2] if at else "")
    found = check.found
    for secret in secrets:
        if len(secret) >= _LEAST_SECRET:
            found = found.replace(secret, f"{secret[:4]}... ({len(secret)} characters)")
    return replace(check, found=found)


def _print(check: Check) -> None:
    fix = f"  [bold]Fix:[/] {escape(check.fix)}" if check.fix else ""
    line = f"{_MARKS[check.status]} {check.name}: {escape(check.found)}{fix}"
    console.print(line.replace("\n", " "), soft_wrap=True, highlight=False)
