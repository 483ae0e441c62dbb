"""The commands write to terminals of every encoding."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli.plain_output import accept_every_character

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", b"v x ... ? ?"), ("latin-1", b"v x ... \xe9 ?"), ("utf-8", "✓ ✗ … é ?".encode())],
)
def test_every_character_is_written_in_every_encoding(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: bytes
) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding))
    accept_every_character()
    sys.stdout.write("✓ ✗ … é \udcff")
    sys.stdout.flush()
    assert terminal.getvalue() == written


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/a\xff.ply"
    done = subprocess.run(
        [sys.executable, "-m", "serve_app.cli.main", "export", name, tmp_path / "x.ply"],
        capture_output=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert b"cannot be read: No such file" in done.stdout
    assert b"Traceback" not in done.stderr
