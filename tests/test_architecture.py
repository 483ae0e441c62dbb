"""The map of the code is true: rooms, glossary, public names."""

import re
import subprocess
import sys
from pathlib import Path

import pipeline

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_table_of_rooms_names_every_package_and_no_other():
    named = set(re.findall(r"^\| `([\w/]+)` \|", section("Rooms"), re.MULTILINE))
    packages = {
        str(path.parent.relative_to(ROOT))
        for layer in ("pipeline", "deployments", "serve_app", "training", "bench")
        for path in (ROOT / layer).rglob("__init__.py")
    }
    assert named == packages


def test_the_glossary_is_short():
    words = re.findall(r"^\| ([^|`]+) \|", section("Glossary"), re.MULTILINE)
    assert 20 < len(words) - 1 <= 40


def test_modules_named_on_the_page_exist():
    for name in re.findall(r"\b(flow\.\w+|engines\.\w+)", section("How a photo flows")):
        path = ROOT / "pipeline" / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").exists(), name
    base = re.search(r"\| `pipeline` \| (.*?): the words", PAGE)
    assert base is not None
    for name in re.findall(r"`(\w+)`", base[1]):
        assert (ROOT / "pipeline" / f"{name}.py").exists(), name


def test_public_names_of_the_pipeline_are_there():
    for name in pipeline.__all__:
        assert getattr(pipeline, name).__module__.startswith("pipeline."), name
    assert pipeline.__all__ == sorted(pipeline.__all__)


def test_importing_the_pipeline_imports_nothing_heavy():
    code = "import pipeline, sys; print([m for m in ('torch', 'numpy', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
