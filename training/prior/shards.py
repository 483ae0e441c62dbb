"""Made objects on disk: samples of consecutive seeds in files of 500, made once and read often.

It does not know how samples are made, or what is learned from them.
"""

from __future__ import annotations

import hashlib
import os
import time
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import numpy.typing as npt

SHARD_SIZE = 500

#: Files that are held open at most: each takes a descriptor, and a process has 1024 as a rule. A
#: night makes more shards than that.
MOST_OPEN = 256

#: One sample; see `training.prior.scene.Sample`.
RECORD = np.dtype(
    [
        ("rgba", np.uint8, (112, 112, 4)),
        ("front", np.float16, (56, 56)),
        ("back", np.float16, (56, 56)),
        ("hit", np.uint8, (56, 56)),
        ("back_color", np.uint8, (56, 56, 3)),
        ("inflated", np.float16, (56, 56)),
        ("elevation_deg", np.float32),
        ("focal", np.float32),
    ]
)

#: What shapes a sample; a change of one of these makes other objects.
_GENERATOR = (
    *("solids.py", "polygons.py", "primitives.py", "drawing.py", "finishes.py", "paint.py"),
    *("light.py", "placing.py", "raster.*", "scene.py", "mattes.py"),
)

Records = npt.NDArray[np.void]


def generator_digest() -> str:
    """Of the code that makes objects, 12 hex digits: shards of another generator are never read."""
    here = Path(__file__).parent
    files = [path for pattern in _GENERATOR for path in here.glob(pattern)]
    files += (here / "families").rglob("*.py")
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(here).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def end_without_parent() -> None:
    """Ends a process of a training whose first process was killed: nobody would stop it."""
    parent = parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit("The training that this process belongs to has ended.")


class Shards:
    """The samples of seeds `first`, `first + 1`, ... in a folder.

    Args:
        folder: of all shards; those of this generator lie in a folder of its digest.
    """

    def __init__(self, folder: Path, first: int = 0) -> None:
        self.folder = folder / f"objects-{generator_digest()}"
        self.first = first
        self._open: dict[int, Records] = {}

    def path(self, shard: int) -> Path:
        return self.folder / f"{self.first + shard * SHARD_SIZE:012d}.npy"

    def write(self, shard: int) -> None:
        """Make a shard unless it is there; it appears whole or not at all."""
        from training.prior.scene import make_scene, take

        path = self.path(shard)
        if path.exists():
            return
        records = np.zeros(SHARD_SIZE, RECORD)
        for i in range(SHARD_SIZE):
            sample = take(make_scene(self.first + shard * SHARD_SIZE + i))
            for name in RECORD.names or ():
                records[name][i] = getattr(sample, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        with unfinished.open("wb") as file:
            np.save(file, records)
        unfinished.replace(path)

    def read(self, indices: npt.NDArray[np.int64]) -> Records:
        """Samples by their number from 0. Waits for shards that are still being made."""
        records = np.empty(len(indices), RECORD)
        for i, index in enumerate(indices):
            records[i] = self._shard(int(index) // SHARD_SIZE)[int(index) % SHARD_SIZE]
        return records

    def _shard(self, shard: int) -> Records:
        if shard not in self._open:
            path = self.path(shard)
            while not path.exists():
                end_without_parent()
                time.sleep(1.0)
            if len(self._open) >= MOST_OPEN:
                del self._open[next(iter(self._open))]
            self._open[shard] = np.load(path, mmap_mode="r")
        return self._open[shard]
