"""Cores a process may use, by affinity and the quotas of its control groups."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import cores
from pipeline.engines.registry import EngineChoice
from pipeline.flow.local import Laned, build_ports
from pipeline.geometry import neighbours
from pipeline.imaging import video
from pipeline.native import default_threads
from pipeline.native.compile import MAX_THREADS
from pipeline.ports import PortName


def groups(folder: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> None:
    """Control groups with these files, and this process in `own` (lines of /proc/self/cgroup)."""
    monkeypatch.setattr(cores, "_CGROUPS", folder / "cgroup")
    monkeypatch.setattr(cores, "_OWN_CGROUP", folder / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    (folder / "own").write_bytes(os.fsencode(own))
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {}, 64),
        ("", {}, 64),
        ("0::/\n", {"cpu.max": "max 100000"}, 64),
        # A container sees its own group at the root.
        ("0::/\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", {"cpu.max": "250000 100000"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        # A service of systemd: its own group's quota, or its slice's.
        ("0::/a.slice/b.service\n", {"a.slice/b.service/cpu.max": "400000 100000"}, 4),
        (
            "0::/a.slice/b.service\n",
            {"a.slice/b.service/cpu.max": "max 100000", "a.slice/cpu.max": "300000 100000"},
            3,
        ),
        # Version 1, at the root and below it.
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "600000", "cpu/cpu.cfs_period_us": "100000"}, 6),
        (
            "4:memory:/x\n3:cpu,cpuacct:/pod/one\n",
            {
                "cpu/pod/one/cpu.cfs_quota_us": "100000",
                "cpu/pod/one/cpu.cfs_period_us": "50000",
            },
            2,
        ),
        ("0::/\n", {"cpu.max": "damaged"}, 64),
        ("0::/\n", {"cpu.max": ""}, 64),
        ("0::/\n", {"cpu.max": "200000"}, 64),
        ("0::/\n", {"cpu.max": "0 100000"}, 64),
        ("0::/../../pod\n", {"cpu.max": "200000 100000"}, 2),
        ("no colons\n\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/a\udcff\n", {"a\udcff/cpu.max": "200000 100000"}, 2),
    ],
)
def test_cores_are_what_affinity_and_every_quota_leave(tmp_path, monkeypatch, own, files, expected):
    groups(tmp_path, monkeypatch, own, files)
    assert cores.usable_cores() == expected
    assert default_threads() == min(expected, MAX_THREADS)


def test_affinity_limits_without_a_quota(tmp_path, monkeypatch):
    groups(tmp_path, monkeypatch, "0::/\n", {"cpu.max": "800000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5})
    assert cores.usable_cores() == 2


def test_a_limit_counts_until_it_is_taken_away(tmp_path, monkeypatch):
    groups(tmp_path, monkeypatch, "0::/\n", {"cpu.max": "400000 100000"})
    monkeypatch.setattr(cores, "_limit", None)
    assert cores.worker_threads() == 4
    cores.limit_threads(2)
    assert cores.worker_threads() == 2
    cores.limit_threads(0)
    assert cores.worker_threads() == 1
    cores.limit_threads(None)
    assert cores.worker_threads() == 4


@pytest.fixture
def three_threads(monkeypatch):
    """Engines built with `threads: 3`; the process is as before afterwards."""
    import cv2

    monkeypatch.setattr(cores, "_limit", None)
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield lambda *ports: build_ports(EngineChoice(background="rembg", threads=3), ports)
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def test_threads_are_kept_by_every_library_that_starts_some(three_threads, monkeypatch):
    import cv2

    local = three_threads(PortName.BACKGROUND, PortName.ENHANCER)
    assert torch.get_num_threads() == cv2.getNumThreads() == cores.worker_threads() == 3
    options = local.background.engine._session.inner_session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
    assert local.enhancer.engine._net.opt.num_threads == 3
    asked = []

    class Tree:
        def __init__(self, points):
            self.count = len(points)

        def query(self, points, k, workers):
            asked.append(workers)
            return np.ones((self.count, k)), None

    monkeypatch.setattr(neighbours, "cKDTree", Tree)
    neighbours.neighbour_distance(np.zeros((20, 3), np.float32))
    assert asked == [3]


async def test_a_lane_gives_its_thread_the_process_number_before_every_call(three_threads):
    """Its thread may have begun while another had turned torch's helpers off."""
    local = three_threads(PortName.DEPTH)
    await local.lane.run(lambda _control: torch.set_num_threads(1))
    told = []

    class Asked:
        name = "asked"

        def remove(self, rgb, control):
            told.append(torch.get_num_threads())
            return rgb[..., 0]

    await Laned(Asked(), local.lane).remove_background(np.zeros((4, 4, 3), np.uint8))
    assert told == [3]


def test_films_are_written_with_as_many_threads(monkeypatch):
    monkeypatch.setattr(cores, "_limit", 3)
    command = video._arguments(64, 64, 24)
    assert command[command.index("-threads") + 1] == "3"
    assert command[command.index("-filter_threads") + 1] == "3"
