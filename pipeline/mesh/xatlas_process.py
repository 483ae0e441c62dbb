"""What `pipeline.mesh.unwrap` runs as a process of its own: a mesh in, xatlas's layout out.

It imports nothing of the product, so that it starts in a fraction of a second. It holds the
interpreter's lock for as long as xatlas works, which is why it has an interpreter to itself.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys

import numpy as np
import xatlas

#: linux/prctl.h.
_PR_SET_PDEATHSIG = 1


def main(source: str, target: str, padding: int, texels_per_unit: float, threads: int) -> None:
    """Layout of the .npz `source` (`vertices` float32 [V, 3], `faces` uint32 [F, 3]) into the .npz
    `target` (`source` [W], `faces` [F, 3], `uvs` float32 [W, 2])."""
    if hasattr(os, "sched_setaffinity"):
        # xatlas starts a thread for each core that it sees.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, random.sample(cores, min(threads, len(cores))))
    pack = xatlas.PackOptions()
    pack.padding = padding
    pack.bilinear = True
    # With a resolution xatlas may open a second atlas; without one it makes a single atlas of the
    # size that this scale leads to.
    pack.texels_per_unit = texels_per_unit
    atlas = xatlas.Atlas()
    with np.load(source) as mesh:
        atlas.add_mesh(mesh["vertices"], mesh["faces"])
    atlas.generate(xatlas.ChartOptions(), pack)
    vertices, faces, uvs = atlas[0]
    np.savez(target, source=vertices, faces=faces, uvs=uvs)


def _end_with(parent: int) -> None:
    """Lets the kernel end this process with the one that started it, however that one ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel knew
        sys.exit("the process that asked has ended")


if __name__ == "__main__":
    _end_with(int(sys.argv[6]))
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
