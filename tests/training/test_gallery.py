"""Pages of samples: as many as asked for, under the names asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from training.prior import gallery


def test_pages_hold_the_samples_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "DOWN", 1)
    command = ["gallery", str(tmp_path / "seen.png"), "--count", "6", "--seed", "3"]
    monkeypatch.setattr(sys, "argv", command)
    gallery.main()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["seen-1.png", "seen-2.png"]
    width = gallery.ACROSS * 5 * gallery.TILE
    for path in tmp_path.iterdir():
        assert Image.open(path).size == (width, gallery.TILE + 12)
    last = Image.open(tmp_path / "seen-2.png")
    assert last.crop((width // 2, 0, width, gallery.TILE)).getextrema() == ((255, 255),) * 3
