"""What is gathered for a machine without a network is enough to measure there."""

import os
import subprocess
import sys

import pytest

from bench.gpu_pack import PACKAGES, ROOT, gather, pip_command


def test_wheels_are_those_that_the_product_is_tested_with(tmp_path):
    command = pip_command(tmp_path)
    assert "torch" not in command, "the machine has a build for its card"
    assert "torch" in pip_command(tmp_path, with_torch=True)
    assert command[command.index("--constraint") + 1] == str(ROOT / "constraints.txt")
    pinned = (ROOT / "constraints.txt").read_text().lower()
    for package in PACKAGES:
        assert f"\n{package}==" in f"\n{pinned}", package


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(FileExistsError, match="name another folder"):
        gather(tmp_path, wheels=False)


@pytest.mark.faults
def test_the_gathered_sources_measure_by_themselves(tmp_path):
    gather(tmp_path / "pack", wheels=False)
    source = tmp_path / "pack" / "source"
    words = ["-P", "-m", "bench.gpu", "deg", "--tiny", "--device", "cpu", "--json", "deg.json"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Idol Turbo: photo to 320 splats" in done.stdout
    assert (tmp_path / "deg.json").is_file()
