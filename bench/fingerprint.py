"""What the product makes and promises, as hashes and texts that two commits can be compared by.

`python -m bench.fingerprint record DIR` writes them, `python -m bench.fingerprint compare A B` says
what differs. Hashes of artefacts are those of one machine: another CPU rounds differently. It knows
the command line, the application and the embedded server; not how anything is computed.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import skimage.data
import typer.main
from typer.testing import CliRunner

from bench.schema import new_database, pg_dump
from serve_app.cli.main import app as command_line
from serve_app.http.app import create_app
from serve_app.http.dependencies import Services

#: Photos that an installed package carries: one is cut out by a network, one has a plain ground.
PHOTOS = ("coffee.png", "rocket.jpg")

#: Of `glimpse3d run`, so that a recording takes two minutes and still refines twice.
RUN = ("--seed", "7", "--iterations", "2", "--preset", "draft")

#: Records of when and with what a run was made, not what it made.
_UNSTABLE = ("manifest.json",)


def artefacts(photo: str, out: Path) -> dict[str, str]:
    """SHA-256 of every file that `glimpse3d run` leaves, by its path."""
    source = Path(skimage.data.__file__).parent / photo
    command = [sys.executable, "-c", "from serve_app.cli.main import app; app()"]
    command += ["run", str(source), "--out", str(out), *RUN]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in _UNSTABLE
    }


def openapi() -> str:
    """The OpenAPI document of the application, indented."""
    nothing = cast(Any, None)  # a document is made without a store
    document = create_app(Services(nothing, nothing, nothing, files=nothing)).openapi()
    return json.dumps(document, indent=1, sort_keys=True)


def schema() -> str:
    """`pg_dump --schema-only` of a new embedded database, statements sorted."""
    with new_database() as database:
        dump = pg_dump(database)
    blocks = re.split(r"^--\n-- Name: ", dump, flags=re.MULTILINE)[1:]
    # pg_dump's closing lines hold a random key.
    return "\n\n".join(
        sorted(re.sub(r"^\\(un)?restrict .*$", "", b, flags=re.M).strip() for b in blocks)
    )


def helps() -> dict[str, str]:
    """The help of every command, by its words."""
    found: dict[str, str] = {}
    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "TERM": "dumb"})

    def add(command: Any, words: list[str]) -> None:
        found[" ".join(["glimpse3d", *words])] = runner.invoke(
            command_line, [*words, "--help"], catch_exceptions=False
        ).stdout
        for name, child in getattr(command, "commands", {}).items():
            add(child, [*words, name])

    add(typer.main.get_command(command_line), [])
    return found


def record(folder: Path, *, with_artefacts: bool) -> None:
    """Write everything under `folder`: `*.json`, `*.sql`, `*.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "openapi.json").write_text(openapi())
    (folder / "help.txt").write_text(
        "\n".join(f"$ {words}\n{text}\n" for words, text in helps().items())
    )
    (folder / "schema.sql").write_text(schema())
    for photo in PHOTOS if with_artefacts else ():
        with tempfile.TemporaryDirectory() as place:
            hashes = artefacts(photo, Path(place) / "out")
        (folder / f"{photo}.json").write_text(json.dumps(hashes, indent=1))


def compare(before: Path, after: Path) -> int:
    """Print what differs; 0 where nothing does, else 1."""
    differs = 0
    for name in sorted({p.name for p in [*before.iterdir(), *after.iterdir()]}):
        old, new = (
            (folder / name).read_text().splitlines() if (folder / name).exists() else []
            for folder in (before, after)
        )
        lines = list(difflib.unified_diff(old, new, f"before/{name}", f"after/{name}", n=1))
        print(f"{name}: {'equal' if not lines else f'{len(lines)} lines of difference'}")
        print("".join(f"  {line.rstrip()}\n" for line in lines), end="")
        differs |= bool(lines)
    return differs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fingerprint", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--no-artefacts", action="store_true", help="texts only; seconds")
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.command == "compare":
        sys.exit(compare(given.before, given.after))
    record(given.folder, with_artefacts=not given.no_artefacts)


if __name__ == "__main__":
    main()
