"""The `glimpse3d weights` commands: what there is, fetch it, verify it, convert a checkpoint.

It turns arguments into calls of `pipeline.weights` and errors into one sentence and an exit code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.control import Control, Progress
from pipeline.engines.registry import weights_catalogue
from pipeline.errors import InvalidOption
from pipeline.weights.catalogue import Carried, Weights, size_for_people
from pipeline.weights.fetch import convert, fetch
from pipeline.weights.folders import Condition, adopt, find, state_of, verify
from serve_app.cli.console import StageBars, errors_as_sentences, stage_bars

#: Of `verify`: it could be run, and something is not as it was recorded.
DAMAGED_EXIT_CODE = 3

_ENGINES = ", ".join(weights_catalogue().engines)

weights_app = typer.Typer(help="Weights of the engines.", no_args_is_help=True)
console = Console()

ModelDirOption = Annotated[
    Path | None, typer.Option(help="Where the models lie. Default: MODEL_DIR.", file_okay=False)
]


def _model_dir(chosen: Path | None) -> Path | None:
    from serve_app.settings import Environment

    return chosen or Environment().model_dir


def _model_dir_or_exit(chosen: Path | None) -> Path:
    model_dir = _model_dir(chosen)
    if model_dir is None:
        console.print(
            "[red]No model directory:[/] set MODEL_DIR, for this command and for the service, or "
            "give --model-dir.",
            soft_wrap=True,
        )
        raise typer.Exit(2)
    return model_dir


def _moving(bars: StageBars) -> Control:
    def report(progress: Progress) -> None:
        bars.update(progress.fraction, progress.message)

    return Control(report_to=report)


@dataclass(frozen=True)
class _Row:
    """A line of `weights list`; the fields are the keys of `--json`."""

    name: str
    purpose: str
    engine: str
    licence: str
    commercial: bool
    size_bytes: int
    state: str
    where: str | None
    source: str
    revision: str | None
    fault: str


@weights_app.command("list")
def list_weights(
    model_dir: ModelDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What the engines can load, under which licence, and whether it is there."""
    with errors_as_sentences(console):
        folder = _model_dir(model_dir)
        rows = [_row(weights, folder) for weights in weights_catalogue().weights]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    console.print(_table(rows))
    for remark in _remarks(rows):
        console.print(remark, soft_wrap=True)
    if folder is None:
        console.print("No model directory is set: give --model-dir or set MODEL_DIR.")
    else:
        console.print(f"Folders are in {escape(str(folder))}.", soft_wrap=True)


def _row(weights: Weights, model_dir: Path | None) -> _Row:
    state, source = state_of(weights, model_dir), weights.source
    return _Row(
        name=weights.name,
        purpose=weights.purpose,
        engine=weights.engine,
        licence=weights.licence,
        commercial=weights.commercial,
        size_bytes=weights.size_bytes,
        state=state.condition,
        where=None if state.condition is Condition.MISSING else str(state.path),
        source=source.how if isinstance(source, Carried) else source.repo,
        revision=None if isinstance(source, Carried) else source.revision,
        fault=state.fault,
    )


def _there(bundle: Weights, model_dir: Path) -> bool:
    return state_of(bundle, model_dir).condition is not Condition.MISSING


#: Narrower terminals get the table without what a weight is for.
_WIDE = 120


def _table(rows: list[_Row]) -> Table:
    colours = {Condition.READY: "green", Condition.MISSING: "dim"}
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("licence", overflow="fold")
    wide = console.width >= _WIDE
    if wide:
        table.add_column("what for")
    for row in rows:
        licence = escape(row.licence) if row.commercial else f"[red]{escape(row.licence)} *[/]"
        colour = colours.get(Condition(row.state), "red")
        state = f"[{colour}]{row.state}[/]"
        cells = [row.name, size_for_people(row.size_bytes), state, licence]
        table.add_row(*cells, *([row.purpose] if wide else []))
    return table


def _remarks(rows: list[_Row]) -> Iterator[str]:
    """What the table has no room for."""
    if not all(row.commercial for row in rows):
        yield "[red]*[/] forbids commercial use; `fetch --allow NAME` takes it anyway."
    files = weights_catalogue().files
    unpinned = [row.name for row in rows if not row.revision and row.name not in files]
    if unpinned:
        yield f"Not pinned to a revision: {', '.join(unpinned)}."
    for row in rows:
        if row.state not in (Condition.READY, Condition.MISSING) and row.fault:
            yield f"{row.name}: {escape(row.fault)}"


@weights_app.command("fetch")
def fetch_weights(
    names: Annotated[list[str] | None, typer.Argument(help="As `weights list` shows them.")] = None,
    engines: Annotated[
        str | None,
        typer.Option(help=f"All that these need: {_ENGINES}."),
    ] = None,
    model_dir: ModelDirOption = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="A name whose licence forbids commercial use; may be repeated."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Open no connection; HF_HUB_OFFLINE=1 says the same.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Read every file and bring what has changed.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Of one name: a commit or branch instead of the pinned one.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="A mirror of the model hub. Default: HF_ENDPOINT.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of what is converted: fp16, bf16 or fp32.")
    ] = None,
) -> None:
    """Bring weights into the model directory, checked. After Ctrl-C the same command goes on."""
    with errors_as_sentences(console, "The same command goes on where it stopped."):
        # A file of a package first: it needs no model directory.
        known = weights_catalogue()
        bundles = [known.bundle(name) for name in names or [] if not _is_file(name, model_dir)]
        bundles += known.bundles_of(engines) if engines else []
        bundles = list(dict.fromkeys(bundles))
        if not names and not engines:
            console.print("[red]Nothing to fetch:[/] give names or --engines gpu.")
            raise typer.Exit(2)
        if revision is not None and len(bundles) != 1:
            raise InvalidOption("--revision goes with one name.")
        if not bundles:
            return
        folder = _model_dir_or_exit(model_dir)
        places = []
        with stage_bars(console) as bars:
            for bundle in bundles:
                bars.enter(bundle.name)
                place = fetch(
                    bundle,
                    folder,
                    control=_moving(bars),
                    allow=allow or (),
                    offline=offline,
                    endpoint=endpoint,
                    revision=revision,
                    repair=repair,
                    precision=precision if bundle.converted else None,
                )
                places.append((bundle, place))
                bars.finish("ready")
        for bundle, place in places:
            console.print(f"{bundle.name}: {escape(str(place))}", soft_wrap=True)


def _is_file(name: str, model_dir: Path | None) -> bool:
    """Whether the name is of a file that packages carry; says where it lies.

    Raises:
        Unavailable: it is, and the file is not there; the text says how to get it.
    """
    weights = weights_catalogue().files.get(name)
    if weights is None:
        return False
    console.print(f"{name}: {escape(str(find(weights, _model_dir(model_dir))))}", soft_wrap=True)
    return True


@weights_app.command("verify")
def verify_weights(
    names: Annotated[list[str] | None, typer.Argument(help="Default: all that are there.")] = None,
    model_dir: ModelDirOption = None,
) -> None:
    """Read weights and compare them with their recorded checksums.

    Exit code 0: unchanged. 3: something is damaged. 1: it could not be run.
    """
    with errors_as_sentences(console):
        folder = _model_dir_or_exit(model_dir)
        known = weights_catalogue()
        chosen = names or [n for n, b in known.bundles.items() if _there(b, folder)]
        faults: dict[str, list[str]] = {}
        with stage_bars(console) as bars:
            for name in chosen:
                bars.enter(name)
                faults[name] = verify(known.bundle(name), folder, control=_moving(bars))
                bars.finish("damaged" if faults[name] else "unchanged")
    if not chosen:
        console.print(f"Nothing to verify in {escape(str(folder))}.", soft_wrap=True)
    for name, sentences in faults.items():
        for sentence in sentences:
            console.print(f"[red]{name}[/]: {escape(sentence)}", soft_wrap=True)
        if sentences:
            console.print(f"`glimpse3d weights fetch {name} --repair` brings what has changed.")
    if any(faults.values()):
        raise typer.Exit(DAMAGED_EXIT_CODE)


@weights_app.command("adopt")
def adopt_weights(
    name: Annotated[str, typer.Argument(help="As `weights list` shows it.")],
    model_dir: ModelDirOption = None,
) -> None:
    """Record a folder that was filled by hand, for machines without a network."""
    with errors_as_sentences(console):
        folder = _model_dir_or_exit(model_dir)
        with stage_bars(console) as bars:
            bars.enter(name)
            bundle = weights_catalogue().bundle(name)
            place = adopt(bundle, folder, control=_moving(bars))
            bars.finish("recorded")
        console.print(f"{name}: {escape(str(place))}", soft_wrap=True)


@weights_app.command("convert")
def convert_weights(
    name: Annotated[str, typer.Argument(help="syncdreamer")],
    checkpoint: Annotated[Path, typer.Argument(help="The released checkpoint.", dir_okay=False)],
    model_dir: ModelDirOption = None,
    precision: Annotated[str | None, typer.Option(help="fp16, bf16 or fp32.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Take a checkpoint that is not the released one.")
    ] = False,
) -> None:
    """Make the files an engine loads from a checkpoint that was downloaded by hand."""
    with errors_as_sentences(console):
        folder = _model_dir_or_exit(model_dir)
        with stage_bars(console) as bars:
            bars.enter(name)
            place = convert(
                weights_catalogue().bundle(name),
                checkpoint,
                folder,
                precision=precision,
                trust=trust,
                control=_moving(bars),
            )
            bars.finish("ready")
        console.print(f"{name}: {escape(str(place))}", soft_wrap=True)
