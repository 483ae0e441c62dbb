"""Model files on disk: read one, export it to another format, make its pictures.

It needs no service, no store and no Ray; the command line prints what it answers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pipeline.control import Control
from pipeline.engines.registry import EngineChoice
from pipeline.errors import InvalidInput, InvalidModelFile, InvalidOption
from pipeline.file_types import FORMATS
from pipeline.formats.read_splats import ReadModel
from pipeline.formats.sog_reader import META_NAME, load_sog_files
from pipeline.formats.splat_files import load_splats, refuse_damage
from pipeline.options import ExportOptions
from pipeline.ports import PortName
from pipeline.requests import ExportedFile
from serve_app.cli.console import StageBars


def read_model(path: Path, *, strict: bool = False) -> ReadModel:
    """The model of a file of splats of any kind, and notes of what was left out.

    A folder, or the meta.json in it, is a .sog whose files lie side by side.

    Args:
        strict: a file of which anything is damaged is refused.

    Raises:
        InvalidModelFile: the file is empty, damaged, or of another kind; the text says which.
        InvalidInput: the file cannot be read.
    """
    if path.is_dir() or path.name == META_NAME:
        read = _read_sog_folder(path if path.is_dir() else path.parent)
    else:
        read = load_splats(_bytes_of(path), str(path))
    return refuse_damage(read) if strict else read


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error


def _read_sog_folder(folder: Path) -> ReadModel:
    if not (folder / META_NAME).is_file():
        raise InvalidModelFile(
            f"{folder} is a folder without {META_NAME}: no .sog of splats. Name a file."
        )

    def fetch(name: str) -> bytes:
        if not (folder / name).is_file():
            raise InvalidModelFile(f"{folder} has no file {name[:40]!r}, which its .sog names.")
        return _bytes_of(folder / name)

    try:
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be read: {error.strerror}.") from error
    return load_sog_files(fetch, size)


def format_of(target: Path) -> str:
    """The format that a file's name asks for, the longest suffix first.

    Raises:
        InvalidOption: the name asks for none; the text lists the suffixes.
    """
    name = target.name.lower()
    for known in sorted(FORMATS.values(), key=lambda f: -len(f.suffix)):
        if name.endswith(f".{known.suffix}"):
            return known.name
    if name.endswith(".obj"):
        raise InvalidOption(
            "An obj export is a zip of the mesh, its material and its texture: "
            f"name it {target.name}.zip."
        )
    suffixes = ", ".join(f".{known.suffix}" for known in FORMATS.values())
    raise InvalidOption(f"{target.name} names no format; the file must end in one of {suffixes}.")


def check_target(target: Path) -> None:
    """Raises InvalidOption unless `target` can become a file; before seconds of work are spent."""
    if target.is_dir():
        raise InvalidOption(f"{target} is a folder; name a file.")
    if not target.parent.is_dir():
        raise InvalidOption(f"There is no folder {target.parent}.")


def write_whole(target: Path, data: bytes) -> None:
    """The whole file or nothing, also when the process is stopped; an old one is replaced.

    Raises:
        InvalidInput: the file cannot be written.
    """
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            file.write(data)
        partial.replace(target)
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _read(source: Path, bars: StageBars, *, strict: bool) -> ReadModel:
    bars.enter("read")
    read = read_model(source, strict=strict)
    bars.finish(f"{len(read.model):,} splats")
    return read


def export_file(
    source: Path, target: Path, options: ExportOptions, bars: StageBars, *, strict: bool = False
) -> ExportedFile:
    """Convert a model file; a damaged one only if not `strict`.

    Raises:
        InvalidInput: a file cannot be read or written, or the model cannot be exported.
        Unavailable: the native library cannot be compiled.
    """
    # Imported here: the command line should answer --help without torch.
    from pipeline.engines.exporter import export_model

    check_target(target)
    read = _read(source, bars, strict=strict)
    bars.enter("export")
    exported = export_model(read.model, options, Control(report_to=bars.show))
    bars.finish("")
    bars.enter("write")
    write_whole(target, exported.data)
    bars.finish(f"{len(exported.data) / 1e6:.2f} MB")
    return replace(exported, notes=read.notes + exported.notes)


def render_file(
    source: Path,
    pictures: Mapping[str, Path],
    bars: StageBars,
    *,
    frames: int,
    size: int,
    strict: bool = False,
) -> tuple[str, ...]:
    """Draw a model file: `pictures` maps "turntable" and "thumbnail" to the files wanted.

    Answers notes for the user: what of the file was left out; if `strict`, it is refused instead.

    Raises:
        InvalidInput: a file cannot be read or written, or the model cannot be drawn.
        Unavailable: there is no ffmpeg, or the native library cannot be compiled.
    """
    from pipeline.flow.local import build_ports
    from pipeline.flow.previews import check_picture, make_thumbnail, make_turntable
    from pipeline.splats.bounds import undrawn

    check_picture(frames=frames, size=size)
    for target in pictures.values():
        check_target(target)
    read = _read(source, bars, strict=strict)
    model = read.model
    splats = build_ports(EngineChoice(), [PortName.SPLATS]).splats
    assert splats is not None, "asked for"
    if "thumbnail" in pictures:
        bars.enter("thumbnail")
        write_whole(pictures["thumbnail"], asyncio.run(make_thumbnail(model, splats, size=size)))
    if "turntable" in pictures:
        bars.enter("turntable")
        film = asyncio.run(make_turntable(model, splats, bars.show, frames=frames, size=size))
        write_whole(pictures["turntable"], film)
    bars.finish("")
    return read.notes + undrawn(model)
