"""The `glimpse3d weights` commands: what there is, fetch it, verify it, convert a checkpoint.

It turns arguments into calls of `pipeline.weights` and errors into one sentence and an exit code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.control import Control
from pipeline.engines.registry import weights_catalogue
from pipeline.errors import InvalidOption
from pipeline.weights.catalogue import Carried, Hub, Weights, size_for_people
from pipeline.weights.fetch import convert, fetch
from pipeline.weights.folders import Condition, State, adopt, find, refuse_unnamed, state_of, verify
from serve_app.cli.console import errors_as_sentences, stage_bars

#: Of `verify`: it could be run, and something is not as it was recorded.
DAMAGED_EXIT_CODE = 3

_ENGINES = ", ".join(weights_catalogue().engines)
_CONVERTED = ", ".join(w.name for w in weights_catalogue().weights if w.converted)

weights_app = typer.Typer(help="Weights of the engines.", no_args_is_help=True)
console = Console()

ModelDirOption = Annotated[
    Path | None, typer.Option(help="Where the models lie. Default: MODEL_DIR.", file_okay=False)
]


AgreedOption = Annotated[
    list[str] | None, typer.Option(help="A name whose terms are agreed to; may be repeated.")
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


def _print_place(name: str, place: Path) -> None:
    console.print(f"{name}: {escape(str(place))}", soft_wrap=True)


@weights_app.command("list")
def list_weights(
    model_dir: ModelDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What the engines can load, under which licence, and whether it is there."""
    with errors_as_sentences(console):
        folder = _model_dir(model_dir)
        found = [(weights, state_of(weights, folder)) for weights in weights_catalogue().weights]
    if as_json:
        typer.echo(json.dumps([_row(*one) for one in found], indent=2))
        return
    console.print(_table(found))
    for remark in _remarks(found):
        console.print(remark, soft_wrap=True)
    if folder is None:
        console.print("No model directory is set: give --model-dir or set MODEL_DIR.")
    else:
        console.print(f"Folders are in {escape(str(folder))}.", soft_wrap=True)


def _row(weights: Weights, state: State) -> dict[str, object]:
    """What `--json` says of a line."""
    source, missing = weights.source, state.condition is Condition.MISSING
    plain = ("name", "purpose", "engine", "licence", "commercial", "size_bytes")
    return {name: getattr(weights, name) for name in (*plain, "terms", "shown")} | {
        "state": state.condition,
        "where": None if missing else str(state.path),
        "source": source.how if isinstance(source, Carried) else source.repo,
        "revision": _revision(weights),
        "fault": state.fault,
    }


def _revision(weights: Weights) -> str | None:
    return None if isinstance(weights.source, Carried) else weights.source.revision


#: Narrower terminals get the table without what a weight is for.
_WIDE = 120


def _table(found: Sequence[tuple[Weights, State]]) -> Table:
    colours = {Condition.READY: "green", Condition.MISSING: "dim"}
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("licence", overflow="fold")
    wide = console.width >= _WIDE
    if wide:
        table.add_column("what for")
    for one, state in found:
        licence = escape(one.licence)
        if not one.commercial:
            licence = f"[red]{licence} *[/]"
        elif one.terms:
            licence = f"{licence} [yellow]+[/]"
        condition = f"[{colours.get(state.condition, 'red')}]{state.condition}[/]"
        cells = [one.name, size_for_people(one.size_bytes), condition, licence]
        table.add_row(*cells, *([one.purpose] if wide else []))
    return table


def _remarks(found: Sequence[tuple[Weights, State]]) -> Iterator[str]:
    """What the table has no room for."""
    if not all(one.commercial for one, _ in found):
        yield "[red]*[/] forbids commercial use; `fetch --allow NAME` takes it anyway."
    if any(one.terms and one.commercial for one, _ in found):
        yield "[yellow]+[/] has terms of its own; `fetch --allow NAME` agrees to them."
    for one, _ in found:
        if one.terms:
            yield f"{one.name}: {escape(one.terms)}"
    unpinned = [w.name for w, _ in found if isinstance(w.source, Hub) and not w.source.revision]
    if unpinned:
        yield f"Not pinned to a revision: {', '.join(unpinned)}."
    for one, state in found:
        if state.condition not in (Condition.READY, Condition.MISSING) and state.fault:
            yield f"{one.name}: {escape(state.fault)}"


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
        typer.Option(
            help="A name whose licence forbids commercial use, or whose terms are agreed to; may "
            "be repeated."
        ),
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
        for bundle in bundles:  # before gigabytes have come for nothing
            refuse_unnamed(bundle, allow or ())
        places = []
        with stage_bars(console) as bars:
            for bundle in bundles:
                bars.enter(bundle.name)
                place = fetch(
                    bundle,
                    folder,
                    control=Control(report_to=bars.show),
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
            _print_place(bundle.name, place)


def _is_file(name: str, model_dir: Path | None) -> bool:
    """Whether the name is of a file that packages carry; says where it lies.

    Raises:
        Unavailable: it is, and the file is not there; the text says how to get it.
    """
    weights = weights_catalogue().files.get(name)
    if weights is None:
        return False
    _print_place(name, find(weights, _model_dir(model_dir)))
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
        chosen = names or [
            name
            for name, bundle in known.bundles.items()
            if state_of(bundle, folder).condition is not Condition.MISSING
        ]
        faults: dict[str, list[str]] = {}
        with stage_bars(console) as bars:
            for name in chosen:
                bars.enter(name)
                control = Control(report_to=bars.show)
                faults[name] = verify(known.bundle(name), folder, control=control)
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
    allow: AgreedOption = None,
) -> None:
    """Record a folder that was filled by hand, for machines without a network."""
    with errors_as_sentences(console):
        folder = _model_dir_or_exit(model_dir)
        with stage_bars(console) as bars:
            bars.enter(name)
            bundle = weights_catalogue().bundle(name)
            control = Control(report_to=bars.show)
            place = adopt(bundle, folder, allow=allow or (), control=control)
            bars.finish("recorded")
        _print_place(name, place)


@weights_app.command("convert")
def convert_weights(
    name: Annotated[str, typer.Argument(help=_CONVERTED)],
    checkpoints: Annotated[
        list[Path], typer.Argument(help="The released checkpoint, or all of them.", dir_okay=False)
    ],
    model_dir: ModelDirOption = None,
    precision: Annotated[str | None, typer.Option(help="fp16, bf16 or fp32.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Take a checkpoint that is not the released one.")
    ] = False,
    allow: AgreedOption = None,
) -> None:
    """Make the files an engine loads from checkpoints that were downloaded by hand."""
    with errors_as_sentences(console):
        folder = _model_dir_or_exit(model_dir)
        with stage_bars(console) as bars:
            bars.enter(name)
            place = convert(
                weights_catalogue().bundle(name),
                checkpoints,
                folder,
                precision=precision,
                trust=trust,
                allow=allow or (),
                control=Control(report_to=bars.show),
            )
            bars.finish("ready")
        _print_place(name, place)
