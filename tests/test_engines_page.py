"""`docs/engines.md` is followed to the letter: its blocks are written to files and run."""

import os
import re
import subprocess
import sys
from pathlib import Path

from pipeline import ports

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/engines.md").read_text()

#: Code by the name of the file that the page puts it into.
BLOCKS = dict(re.findall(r"^```(?:python|text) (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_an_engine_is_added_as_the_page_says(tmp_path):
    assert len(BLOCKS) == 4
    lines = BLOCKS.pop("pipeline/engines/registry.py")
    for name, code in BLOCKS.items():
        (tmp_path / name).write_text(code)
    registered = (
        "import runpy; from pipeline.engines import registry;"
        f"registry.ENGINE_PATHS += ({lines}); runpy.run_path('try_it.py')"
    )
    done = subprocess.run(
        [sys.executable, "-c", registered],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_page_has_every_port_and_its_protocol():
    protocols = [name for name in vars(ports) if name.endswith("Engine") and name != "Engine"]
    assert len(protocols) == len(ports.PortName)
    for name in (*ports.PortName, *protocols):
        assert f"| `{name}` |" in PAGE, name
