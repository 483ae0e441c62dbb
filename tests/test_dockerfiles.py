"""The Dockerfiles agree with the project. Nothing is built here: there is no Docker in CI."""

import fnmatch
import json
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "deploy/Dockerfile", ROOT / "deploy/Dockerfile.cpu"]


def instructions(path: Path) -> list[tuple[str, str]]:
    """Keyword and arguments of each instruction, comments and line breaks resolved."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
        for line in joined.splitlines()
        if line.strip()
    ]


def last(path: Path, keyword: str) -> str:
    return [rest for word, rest in instructions(path) if word == keyword][-1]


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def dockerfile(request) -> Path:
    found: Path = request.param
    return found


def test_what_is_copied_is_there_and_not_ignored(dockerfile):
    ignored = (ROOT / ".dockerignore").read_text().split()
    kept = {name.removeprefix("!") for name in ignored if name.startswith("!")}
    copies = [rest for word, rest in instructions(dockerfile) if word == "COPY"]
    own = [shlex.split(rest)[:-1] for rest in copies if not rest.startswith("--from=")]
    assert own
    for source in (source for sources in own for source in sources):
        assert (ROOT / source).exists(), source
        assert any(fnmatch.fnmatch(source, name) for name in kept), source
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {
        "tests",
        "bench",
        "training",
    }
    assert packages <= {source for sources in own for source in sources}


def test_versions_are_those_of_the_project(dockerfile):
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    text = " ".join(rest for word, rest in instructions(dockerfile) if word == "RUN")
    named = dict(re.findall(r"(?<![\w-])([a-z]\w+)==([\d.]+)", text))
    assert named["torch"] == pinned["torch"]
    for name, version in named.items():
        assert pinned[name] == version


def test_it_does_not_run_as_root_and_says_whether_it_lives(dockerfile):
    assert last(dockerfile, "USER") not in ("0", "root")
    assert "/health" in last(dockerfile, "HEALTHCHECK")
    command = json.loads(last(dockerfile, "HEALTHCHECK").split("CMD ")[1])
    compile(command[2], "HEALTHCHECK", "exec")
    assert json.loads(last(dockerfile, "CMD")) == ["glimpse3d", "serve"]


def test_gsplat_is_built_into_the_cuda_image_with_the_version_of_the_project():
    text = FILES[0].read_text()
    wanted = re.search(r'"(gsplat==[\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert wanted
    assert f"--no-binary gsplat -w /wheels {wanted[1]}" in text
    assert "TORCH_CUDA_ARCH_LIST" in text
