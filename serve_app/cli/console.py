"""What a run looks like in a terminal: a bar per stage, a table at the end, errors as sentences.

It draws what it is given and computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from pipeline.control import Progress
from pipeline.errors import GlimpseError


@contextmanager
def errors_as_sentences(console: Console, stopped: str = "") -> Iterator[None]:
    """Errors that a user can act on become a line and an exit code; Ctrl-C does, too.

    Args:
        stopped: said after Ctrl-C, such as how to go on.
    """
    try:
        yield
    except ValidationError as error:
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"])).upper() or "settings"
            console.print(f"[red]{name}[/]: {escape(fault['msg'])}", soft_wrap=True)
        raise typer.Exit(2) from None
    except SettingsError as error:  # a variable that is to be JSON and is not
        console.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(2) from None
    except GlimpseError as error:
        # A path or a line of a damaged file may look like markup.
        console.print(f"[red]{error.code}[/]: {escape(error.detail)}", soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print(f"[yellow]Stopped.[/] {stopped}".rstrip())
        raise typer.Exit(130) from None


class StageBars:
    """A bar per stage; the newest one moves."""

    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._stage = ""

    def enter(self, stage: str) -> None:
        """Finish the bar of the stage before and begin another; the same stage goes on."""
        if stage == self._stage and self._task is not None:
            return
        self.finish()
        self._stage = stage
        self._task = self._progress.add_task(stage, total=1.0, note="")

    def update(self, fraction: float, note: str = "") -> None:
        """Move the current bar to `fraction` 0..1."""
        if self._task is not None:
            self._progress.update(self._task, completed=fraction, note=note)

    def show(self, progress: Progress) -> None:
        """A `Report` that moves the current bar; numbers rather than words."""
        numbers = " ".join(f"{k} {v:.4g}" for k, v in progress.numbers.items())
        self.update(progress.fraction, numbers or progress.message)

    def finish(self, note: str | None = None) -> None:
        """The current bar is complete."""
        if self._task is not None:
            self._progress.update(self._task, completed=1.0)
            if note is not None:
                self._progress.update(self._task, note=note)
            self._progress.stop_task(self._task)
            self._task = None


@contextmanager
def stage_bars(console: Console) -> Iterator[StageBars]:
    """Bars that stay on the screen when the run has ended."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=32),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with RichProgress(*columns, console=console) as progress:
        yield StageBars(progress)


def print_notes(console: Console, notes: Iterable[str], of: str = "") -> None:
    """What else there is to know, a line each: `of` a file, where that is not plain."""
    for note in notes:
        said = f"{of}: {note}" if of else note
        # It may quote a client or a file, and what they say may look like markup.
        console.print(f"[yellow]Note:[/] {escape(said)}", soft_wrap=True)


def summary_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; numbers are right-aligned by their header's trailing colon."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in columns:
        right = name.endswith(":")
        table.add_column(name.rstrip(":"), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))  # a file may be called "[red]"
    return table


def scores_table(
    title: str,
    first: str,
    rows: Iterable[tuple[int, float | None, float | None, float | None, str]],
) -> Table:
    """A number, PSNR, SSIM, view agreement and a remark a row; a dash is what was not measured."""

    def digits(value: float | None, places: int) -> str:
        return "-" if value is None else f"{value:.{places}f}"

    cells = [(str(n), digits(p, 2), digits(s, 4), digits(q, 4), note) for n, p, s, q, note in rows]
    return summary_table(title, (first, "PSNR dB:", "SSIM:", "agreement:", ""), cells)


def iterations_table(iterations: Iterable[tuple[int, float, float, float, bool]]) -> Table:
    """Number, PSNR, SSIM, view agreement of iterations, and whether each was accepted."""
    words = {True: "accepted", False: "rolled back"}
    rows = ((n, psnr, ssim, agrees, words[kept]) for n, psnr, ssim, agrees, kept in iterations)
    return scores_table("Scores on held-out views", "iteration", rows)
