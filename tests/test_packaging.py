"""A wheel carries the product with every file that its modules read, and nothing else."""

import fnmatch
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]

#: Made in folders of packages, or for programs that look at the code.
_OF_NO_USE = {".py", ".pyc", ".so"}


def folders() -> list[Path]:
    """Of the packages that are installed."""
    wanted = SETUPTOOLS["packages"]["find"]["include"]
    tops = [path.parent for path in ROOT.glob("*/__init__.py")]
    kept = [top for top in tops if any(fnmatch.fnmatch(top.name, glob) for glob in wanted)]
    return [path.parent for top in kept for path in top.rglob("__init__.py")]


def test_neither_tests_nor_training_nor_benches_are_installed():
    tops = {folder.relative_to(ROOT).parts[0] for folder in folders()}
    assert tops == {"pipeline", "deployments", "serve_app"}


def test_every_file_that_is_no_module_is_carried():
    packages = folders()
    for top in ("pipeline", "deployments", "serve_app"):
        for path in (ROOT / top).rglob("*"):
            if not path.is_file() or path.suffix in _OF_NO_USE:
                continue
            owner = next(folder for folder in path.parents if folder in packages)
            globs = SETUPTOOLS["package-data"].get(".".join(owner.relative_to(ROOT).parts), [])
            name = path.relative_to(owner).as_posix()
            assert any(fnmatch.fnmatch(name, glob) for glob in globs), path.relative_to(ROOT)


def test_every_folder_with_modules_is_a_package():
    for top in ("pipeline", "deployments", "serve_app"):
        holders = {path.parent for path in (ROOT / top).rglob("*.py")}
        assert holders == {path.parent for path in (ROOT / top).rglob("__init__.py")}
