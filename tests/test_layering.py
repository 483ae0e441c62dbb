"""The three layers point one way: serve_app -> deployments -> pipeline."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "pipeline": {"ray", "fastapi", "starlette", "supabase", "asyncpg", "deployments", "serve_app"},
    "deployments": {"fastapi", "starlette", "supabase", "asyncpg", "serve_app"},
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_a_layer_does_not_know_the_ones_above_it(layer):
    files = list((ROOT / layer).rglob("*.py"))
    assert len(files) > 5
    for path in files:
        assert not imported(path) & FORBIDDEN[layer], path


def test_only_these_modules_touch_the_environment():
    readers = [
        str(path.relative_to(ROOT))
        for layer in ("pipeline", "deployments", "serve_app")
        for path in (ROOT / layer).rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    ]
    assert sorted(readers) == [
        "pipeline/native/compile.py",  # build settings: compiler and cache folder
        "serve_app/server.py",  # what Ray and OpenMP must find set before they start
        "serve_app/stores/embedded.py",  # hands PATH and the like on to the server it starts
    ]


def test_only_handles_and_the_dispatcher_call_other_deployments():
    callers = [
        path.name
        for layer in ("pipeline", "deployments", "serve_app")
        for path in (ROOT / layer).rglob("*.py")
        if ".remote(" in path.read_text()
    ]
    assert sorted(callers) == ["dispatcher.py", "handles.py"]


def all_modules():
    for layer in ("pipeline", "deployments", "serve_app"):
        package = importlib.import_module(layer)
        for module in pkgutil.walk_packages(package.__path__, f"{layer}."):
            if not module.name.endswith("__main__"):
                yield module.name


def test_every_name_a_module_exports_exists_and_the_list_is_sorted():
    modules = list(all_modules())
    assert len(modules) > 40
    for name in modules:
        module = importlib.import_module(name)
        exported = getattr(module, "__all__", [])
        missing = [n for n in exported if not hasattr(module, n)]
        assert not missing, f"{name}: {missing}"
