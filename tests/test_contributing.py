"""What CONTRIBUTING.md names exists, and the files of hooks and CI do what it says."""

import configparser
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())

#: Files are named by a suffix or a leading dot, folders by a slash.
_PATH = re.compile(r"[`( ]((?:[\w-]+/|\.)[\w./-]*|[\w.-]+\.(?:py|md|toml|txt))[`) ,;:]")

#: Made by the commands that the page explains.
_MADE = {".venv", ".venv/bin/pip", ".venv/bin/pytest"}


def test_every_path_exists():
    named = {path.rstrip(".") for path in _PATH.findall(PAGE)} - _MADE - {""}
    assert {"docs/architecture.md", ".ci/run", "serve_app/http/routes/", "pyproject.toml"} <= named
    for path in named:
        assert (ROOT / path).exists(), path


def test_every_target_of_make_exists():
    named = set(re.findall(r"`make ([\w-]+)", PAGE))
    assert {"lint", "test", "test-faults"} <= named
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert named <= set(phony[1].split())


def test_every_test_that_guards_something_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 10
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in named:
        assert f"def {name}(" in written, name


def test_hooks_are_local_and_check_what_make_lint_checks():
    (repository,) = HOOKS["repos"]
    assert repository["repo"] == "local"
    assert all(hook["language"] == "system" for hook in repository["hooks"])
    hooked = {Path(hook["entry"].split()[0]).name for hook in repository["hooks"]}
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert lint is not None
    assert hooked == set(re.findall(r"\$\(BIN\)/([\w-]+)", lint[1]))


def test_the_workflow_runs_what_ci_runs_on_the_oldest_python():
    job = WORKFLOW["jobs"]["check"]
    assert job["runs-on"] == "ubuntu-latest"
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == [".ci/run"]
    (python,) = [
        step["with"]["python-version"]
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/setup-python")
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={python}"


@pytest.mark.parametrize("section", ["*.{py,cpp,h,sql}", "Makefile"])
def test_the_editor_is_told_what_ruff_and_make_want(section):
    parser = configparser.ConfigParser()
    parser.read_string("[root]\n" + (ROOT / ".editorconfig").read_text())
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
    wanted = {
        "*.{py,cpp,h,sql}": ("max_line_length", str(ruff["line-length"])),
        "Makefile": ("indent_style", "tab"),
    }
    name, value = wanted[section]
    assert parser[section][name] == value
