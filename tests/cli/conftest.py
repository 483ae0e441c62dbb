"""One run of the whole pipeline in one process, for every test that looks at what it leaves."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_app.cli import app
from serve_app.demo import default_photo


@dataclass(frozen=True)
class FinishedRun:
    """Its folder, which nobody changes, and what it said."""

    folder: Path
    said: str


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A draft with one refinement."""
    folder = tmp_path_factory.mktemp("run") / "cup"
    flags = ["-o", str(folder), "--preset", "draft", "--iterations", "1", "--seed", "3"]
    result = CliRunner().invoke(app, ["run", str(default_photo()), *flags])
    assert result.exit_code == 0, result.output
    return FinishedRun(folder, result.output)
