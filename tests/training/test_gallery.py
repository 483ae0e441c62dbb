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
    for name in ("seen-1.png", "seen-2.png"):
        with Image.open(tmp_path / name) as page:
            assert page.size == (width, gallery.TILE + 12)
            half = page.crop((width // 2, 0, width, gallery.TILE)).getextrema()
        # Two samples are left for the second page.
        assert (half == ((255, 255),) * 3) == (name == "seen-2.png")
