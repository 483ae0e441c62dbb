"""Model files on disk: read one, export it to another format, make its pictures.

It needs no service, no store and no Ray; the command line prints what it answers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.control import Control
from pipeline.engines.registry import EngineChoice
from pipeline.errors import InvalidInput, InvalidModelFile, InvalidOption
from pipeline.file_types import FORMATS
from pipeline.formats.ply import read_ply
from pipeline.formats.splat import read_splat
from pipeline.options import ExportOptions
from pipeline.ports import PortName
from pipeline.requests import ExportedFile
from pipeline.types import SplatModel
from serve_app.cli.console import StageBars


def read_model(path: Path) -> SplatModel:
    """The model of a .ply or .splat file.

    Raises:
        InvalidModelFile: the file is empty, damaged, or of another kind; the text says which.
        InvalidInput: the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error
    if not data:
        raise InvalidModelFile(f"{path} is empty.")
    suffix = path.suffix.lower()
    if data.startswith(b"ply"):
        return read_ply(data)
    if suffix == ".splat":
        return read_splat(data)
    if suffix == ".ply":
        raise InvalidModelFile(f"{path} is not a .ply file: it does not begin with a PLY header.")
    raise InvalidModelFile(f"{path} is neither a .ply nor a .splat file; only these can be read.")


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


def _read(source: Path, bars: StageBars) -> SplatModel:
    bars.enter("read")
    model = read_model(source)
    bars.finish(f"{len(model):,} splats")
    return model


def export_file(
    source: Path, target: Path, options: ExportOptions, bars: StageBars
) -> ExportedFile:
    """Convert a model file.

    Raises:
        InvalidInput: a file cannot be read or written, or the model cannot be exported.
        Unavailable: the native library cannot be compiled.
    """
    # Imported here: the command line should answer --help without torch.
    from pipeline.engines.exporter import export_model

    check_target(target)
    model = _read(source, bars)
    bars.enter("export")
    exported = export_model(model, options, Control(report_to=bars.show))
    bars.finish("")
    bars.enter("write")
    write_whole(target, exported.data)
    bars.finish(f"{len(exported.data) / 1e6:.2f} MB")
    return exported


def render_file(
    source: Path,
    pictures: Mapping[str, Path],
    bars: StageBars,
    *,
    frames: int,
    size: int,
) -> None:
    """Draw a model file: `pictures` maps "turntable" and "thumbnail" to the files wanted.

    Raises:
        InvalidInput: a file cannot be read or written, or the model cannot be drawn.
        Unavailable: there is no ffmpeg, or the native library cannot be compiled.
    """
    from pipeline.flow.local import build_ports
    from pipeline.flow.previews import check_picture, make_thumbnail, make_turntable

    check_picture(frames=frames, size=size)
    for target in pictures.values():
        check_target(target)
    model = _read(source, bars)
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
