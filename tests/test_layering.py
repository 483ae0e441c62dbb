"""The rooms of the code: what import contracts (`pyproject.toml`) cannot say."""

import ast
import importlib
import pkgutil
from pathlib import Path

ROOT = Path(__file__).parents[1]

LAYERS = ("pipeline", "deployments", "serve_app")

#: A longer file is two.
LINE_LIMIT = 400


def sources() -> list[Path]:
    return [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def test_no_two_modules_have_the_same_name():
    names = [path.stem for path in sources() if not path.stem.startswith("__")]
    assert len(names) > 100
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_no_file_is_longer_than_two_should_be():
    assert {p.name for p in sources() if len(p.read_text().splitlines()) > LINE_LIMIT} == set()


def test_no_package_imports_private_modules_of_another():
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                module = node.module or ""
                private = [part for part in module.split(".")[1:] if part.startswith("_")]
                own = ".".join(path.relative_to(ROOT).parent.parts)
                assert not private or module.startswith(own) or not module.startswith(LAYERS), (
                    f"{path}: {module}"
                )


def test_only_these_modules_touch_the_environment():
    readers = [
        str(path.relative_to(ROOT))
        for path in sources()
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    ]
    assert sorted(readers) == [
        "pipeline/native/compile.py",  # build settings: compiler and cache folder
        "serve_app/server.py",  # what Ray and OpenMP must find set before they start
        "serve_app/stores/server_programs.py",  # hands PATH and the like on to the server it starts
    ]


def test_only_handles_and_the_dispatcher_call_other_deployments():
    callers = [path.name for path in sources() if ".remote(" in path.read_text()]
    assert sorted(callers) == ["dispatcher.py", "handles.py"]


def packages():
    for layer in LAYERS:
        package = importlib.import_module(layer)
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{layer}."):
            if not found.name.endswith("__main__"):
                module = importlib.import_module(found.name)
                if found.ispkg:
                    yield module


def test_packages_say_what_is_public_and_modules_by_underscores():
    lists = 0
    for package in packages():
        exported = getattr(package, "__all__", [])
        assert list(exported) == sorted(exported), package.__name__
        missing = [name for name in exported if not hasattr(package, name)]
        assert not missing, f"{package.__name__}: {missing}"
        lists += bool(exported)
    assert lists > 4
    assert [p for p in sources() if p.stem != "__init__" and "__all__" in p.read_text()] == []
