"""One run of the whole pipeline in one process, for every test that looks at what it leaves."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.cli.demo import default_photo
from serve_app.cli.main import app
from serve_app.settings import Environment


@dataclass(frozen=True)
class FinishedRun:
    """Its folder, which nobody changes, and what it said."""

    folder: Path
    said: str


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A draft with one refinement. The enhancer is the quick one: the network, which has tests of
    its own, would take most of the time of every test that runs this again."""
    folder = tmp_path_factory.mktemp("run") / "cup"
    flags = ["-o", str(folder), "--preset", "draft", "--iterations", "1", "--seed", "3"]
    with pytest.MonkeyPatch.context() as quick:
        chosen = Environment.engine_choice
        quick.setattr(
            Environment, "engine_choice", lambda env: replace(chosen(env), enhancer="unsharp")
        )
        result = CliRunner().invoke(app, ["run", str(default_photo()), *flags])
    assert result.exit_code == 0, result.output
    return FinishedRun(folder, result.output)
