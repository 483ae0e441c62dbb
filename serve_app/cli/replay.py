"""`glimpse3d replay`: the steps of a manifest again in one process, compared artefact by artefact.

It needs the project's photos and the engines that the manifest names; there is no service.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from pipeline.engines.by_views import NO_GENERATOR
from pipeline.engines.registry import EngineChoice, engine_names, spec_of
from pipeline.errors import InvalidInput, InvalidOption, Unavailable
from pipeline.flow.folder_journal import FolderJournal, GoingOn
from pipeline.flow.intake import NOBODY, Upload, prepare_upload, upload_of
from pipeline.flow.local import LocalPorts, build_ports
from pipeline.flow.manifest import (
    Difference,
    Manifest,
    State,
    Step,
    StepKind,
    Subject,
    compare,
    is_identical,
)
from pipeline.flow.view_edits import EditRecord, ViewEdit
from pipeline.imaging.decoding import decode_png
from pipeline.imaging.framing import GIVEN_ALPHA, MASK_ALPHA
from pipeline.options import GenerateOptions, RefineOptions
from pipeline.ports import BackgroundRemover, PortName
from serve_app.cli.console import StageBars, stage_bars, summary_table
from serve_app.cli.folder_photos import FolderPhoto
from serve_app.cli.replay_inputs import ReplayInputs, read_manifest
from serve_app.cli.run import FolderRun, write_manifest
from serve_app.settings import Environment

#: The replay went through and something is not what the manifest says. 1 and 2 are errors.
DIFFERS_EXIT_CODE = 3

#: Artefacts that are named one by one.
_SHOWN = 12

_StepOptions = GenerateOptions | RefineOptions


async def replay_manifest(
    path: Path, console: Console, *, photo: Path | None = None, out: Path | None = None
) -> bool:
    """Run a manifest's steps again and print how the results compare; whether all are equal.

    Args:
        path: the manifest.
        photo: the photo that the project stored; None takes it from beside the manifest.
        out: where the new files stay; None compares and drops them.

    Raises:
        InvalidInput: the manifest is damaged, the photo is missing or another one.
        Unavailable: an engine that the manifest names is not here.
    """
    expected = read_manifest(path)
    if not expected.steps or expected.steps[0].kind is not StepKind.GENERATE:
        raise InvalidInput("The manifest has no generation to begin with.")
    _check_out(out, path)
    # All of it is checked before anything is loaded or written.
    inputs = ReplayInputs.read(expected, path, photo)
    options = [_options(step) for step in expected.steps]
    here = Environment().engine_choice()
    choices = _choices(expected.steps, here)
    for choice, asked in zip(choices, options, strict=True):
        choice.check(asked)

    with ExitStack() as stack:
        bars = stack.enter_context(stage_bars(console))
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glimpse3d-")))
        found = await _run(expected, options, choices, inputs, folder, bars)
        if out is not None:
            _write_pictures(out, expected, inputs.pictures)
            write_manifest(out, found)
    differences = compare(expected, found)
    _print(console, expected, differences)
    if out is not None:
        console.print(f"Files under {escape(str(out))}.", soft_wrap=True)
    return is_identical(differences)


def _check_out(out: Path | None, manifest: Path) -> None:
    if out is not None and out.resolve() == manifest.resolve().parent:
        raise InvalidOption("out must not be the manifest's own folder: it would be overwritten.")


def _options(step: Step) -> _StepOptions:
    """Raises InvalidInput that says which option is damaged, and how."""
    kind = GenerateOptions if step.kind is StepKind.GENERATE else RefineOptions
    try:
        return kind.from_json(step.options)
    except InvalidOption as error:
        raise InvalidInput(f"The manifest's {step.kind.value} options are damaged: {error}") from (
            error
        )


def _choices(steps: Sequence[Step], here: EngineChoice) -> list[EngineChoice]:
    """The engines that each step names, on this machine's device.

    Equal where they can be, so that they are built once.

    Raises:
        Unavailable: there is no such engine in this release.
    """
    first_named: dict[str, str] = {}
    for step in reversed(steps):
        first_named |= step.engines
    return [_choice({**first_named, **step.engines}, here) for step in steps]


def _choice(named: dict[str, str], here: EngineChoice) -> EngineChoice:
    if named.get(PortName.BACKGROUND) in NOBODY:
        del named[PortName.BACKGROUND]  # nobody looked for the object
    chosen: dict[str, Any] = {
        port.value: _configured(port, named[port]) for port in _PORTS if named.get(port)
    }
    # Where no step was made by one, this machine's own is not asked.
    chosen.setdefault(PortName.GENERATOR.value, NO_GENERATOR)
    options = {
        port: given
        for port, given in here.options.items()
        if spec_of(port, chosen.get(port.value, here.engine(port))).options
    }
    return replace(here, options=options, **chosen)


#: An exporter leaves nothing that is compared.
_PORTS = tuple(port for port in PortName if port is not PortName.EXPORTER)


def _configured(port: PortName, engine: str) -> str:
    """The name to choose an engine by: its own, or what stands before its first hyphen."""
    for name in engine_names(port):
        if engine == name or engine.startswith(f"{name}-"):
            return name
    raise Unavailable(
        f"The manifest was made with the {port.value} engine {engine!r}, which is not available "
        f"here; there are {[name for name in engine_names(port) if name != 'auto']}."
    )


def _check_engines(step: Step, local: LocalPorts) -> None:
    """Raises Unavailable when an engine was built that has another name than the manifest's."""
    for port in _PORTS:
        wanted, adapter = step.engines.get(port, ""), getattr(local, port.value)
        if wanted in {"", *NOBODY} or adapter is None:
            continue
        if adapter.engine.name != wanted:
            raise Unavailable(
                f"The manifest was made with the {port.value} engine {wanted!r}, which is not "
                f"available here; it would be {adapter.engine.name!r}."
            )


async def stored_upload(
    png: bytes, background: BackgroundRemover, *, remove_background: bool
) -> Upload:
    """What intake made of an upload, from the photo that it stored.

    A stored alpha was given and is taken as it is: in a photo that was scaled down it may look
    like none. Without one, the stored photo takes the way of an upload.

    Raises:
        InvalidImage: the photo holds no object.
    """
    pixels = await asyncio.to_thread(decode_png, png)
    if pixels.ndim == 3 and pixels.shape[-1] == 4:
        rgb, alpha = pixels[..., :3], pixels[..., 3]
        return await asyncio.to_thread(upload_of, rgb, alpha, GIVEN_ALPHA)
    return await prepare_upload(png, background, remove_background=remove_background)


async def _run(
    expected: Manifest,
    options: list[_StepOptions],
    choices: list[EngineChoice],
    inputs: ReplayInputs,
    folder: Path,
    bars: StageBars,
) -> Manifest:
    """Everything again, from the stored photos on, into `folder`."""
    local = await asyncio.to_thread(build_ports, choices[0])
    bars.enter("background")
    photos = []
    for record in (expected.photo, *expected.photos):
        wanted, data = record.remove_background, inputs.photos[record.file]
        if record.masked:
            upload = Upload(data, inputs.cutouts[record.file], MASK_ALPHA)
        else:
            background = local.complete().background
            upload = await stored_upload(data, background, remove_background=wanted)
        photos.append(FolderPhoto(record.file, upload, wanted))
    run = FolderRun(folder, photos, bars)
    built, devices = choices[0], local.devices()
    for step, chosen, choice in zip(expected.steps, options, choices, strict=True):
        if choice != built:
            local, built = await asyncio.to_thread(build_ports, choice), choice
            devices |= local.devices()
        _check_engines(step, local)
        going_on = _going_on(step, chosen, run.journal, inputs.pictures)
        if isinstance(chosen, GenerateOptions):
            await run.generate(chosen, local.complete(), step.photos, going_on)
        else:
            await run.refine(chosen, local.complete(), going_on)
    bars.finish()
    return await run.manifest(expected.project_id, built.model_dir, devices)


def _write_pictures(folder: Path, expected: Manifest, pictures: Mapping[str, bytes]) -> None:
    """Those that replaced views, where a replay of this folder looks for them."""
    for record in (record for step in expected.steps for record in step.edits):
        if record.file is not None and record.sha256 is not None:
            (folder / record.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / record.file).write_bytes(pictures[record.sha256])


def _going_on(
    step: Step, options: _StepOptions, journal: FolderJournal, pictures: Mapping[str, bytes]
) -> GoingOn:
    """What a step begins with. Raises InvalidInput where that was not made before it."""
    numbers = step.versions
    kept: tuple[str, ...] = ()
    if isinstance(options, GenerateOptions) and options.version in journal.versions:
        generation = journal.versions[options.version].generation
        (base,) = [one.options for one in journal.steps if generation in one.versions]
        kept = options.kept_of(GenerateOptions.from_json(base))
    return GoingOn(
        version=options.version,
        kept=kept,
        edits=tuple(_edit(record, journal, pictures) for record in step.edits),
        records=step.edits,
        first_number=numbers[0] if numbers else None,
    )


def _edit(record: EditRecord, journal: FolderJournal, pictures: Mapping[str, bytes]) -> ViewEdit:
    source = None
    if record.source_version is not None:
        if record.source_version not in journal.versions:
            raise InvalidInput(
                f"View {record.view} is restored from version {record.source_version}, which no "
                "step has made."
            )
        source = journal.versions[record.source_version].views
    rgba = decode_png(pictures[record.sha256]) if record.sha256 is not None else None
    return ViewEdit(record.kind, record.view, rgba, source)


def _print(console: Console, expected: Manifest, differences: list[Difference]) -> None:
    """A table of counts, the first artefacts that differ, and what else is not the same."""
    artefacts = [line for line in differences if line.subject is Subject.ARTEFACT]
    names: Mapping[int | None, str] = {
        None: "photo",
        **{i: f"{i + 1} {step.kind.value}" for i, step in enumerate(expected.steps)},
    }
    rows = []
    for step, name in names.items():
        counts = Counter(line.state for line in artefacts if line.step == step)
        rows.append((name, *(str(counts[state]) for state in State)))
    console.print(summary_table("Artefacts", ("step", *(f"{state}:" for state in State)), rows))

    unequal = [line for line in artefacts if line.state is not State.EQUAL]
    for line in unequal[:_SHOWN]:
        console.print(f"[red]{line.state}[/] {names[line.step]}: {escape(line.name)}")
    if len(unequal) > _SHOWN:
        console.print(f"... and {len(unequal) - _SHOWN} more")
    for line in differences:
        if line.subject is not Subject.ARTEFACT:
            where = "" if line.step is None else f" of step {names[line.step]}"
            console.print(
                f"[yellow]{line.subject} {escape(line.name)}{where}[/]: "
                f"{escape(line.expected) or 'none'} then, {escape(line.found) or 'none'} now",
                soft_wrap=True,
            )
    if unequal:
        console.print(f"[red]{len(unequal)} of {len(artefacts)} artefacts are not the same.[/]")
    else:
        console.print(f"[green]Bit-identical: all {len(artefacts)} artefacts.[/]")
