"""Compiles this folder's C++ with the system compiler and loads it with ctypes.

It does not know what the functions do. The library is kept in a cache folder under a name made
from what shapes it and is known without a compiler (sources, flags, $CXX, processor, C library),
so a changed source or a moved cache never loads a stale or foreign build, and a machine that has
the library needs no compiler. No torch headers: 5 s instead of 30 s.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from pipeline.cores import usable_cores
from pipeline.errors import Unavailable

SOURCE_DIR = Path(__file__).parent

#: -ffast-math written out, without the part that makes the linker switch the whole process to
#: flush denormals (crtfastmath.o). NaN and infinity must be kept out by the callers.
FLAGS = (
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
    "-ffinite-math-only",
    "-shared",
    "-fPIC",
    "-pthread",
    "-Wno-psabi",
)

#: More threads than this gain nothing at the product's sizes (a 512 px image has 1024 tiles).
MAX_THREADS = 16

BUILD_TIMEOUT_S = 300

_lock = threading.Lock()
_library: ctypes.CDLL | None = None


def _environment() -> tuple[str | None, Path]:
    """The build settings: compiler command of $CXX and the cache folder.

    This is the only place of the pipeline that reads the environment: compilers and caches are
    properties of the machine, not of the product.

    $GLIMPSE3D_CACHE names the cache folder; else it is `glimpse3d` in $XDG_CACHE_HOME or ~/.cache.
    """
    cache = os.environ.get("GLIMPSE3D_CACHE")
    if cache:
        return os.environ.get("CXX"), Path(cache)
    home = os.environ.get("XDG_CACHE_HOME")
    return os.environ.get("CXX"), (Path(home) if home else Path.home() / ".cache") / "glimpse3d"


def find_compiler(wanted: str | None) -> list[str]:
    """The command of a C++ compiler: `wanted` ($CXX, may hold flags), else g++, else clang++.

    Raises:
        Unavailable: there is none; the text says how to install one.
    """
    for command in [shlex.split(wanted)] if wanted else [["g++"], ["clang++"]]:
        if command and shutil.which(command[0]):
            return command
    tried = f"$CXX = {wanted!r}" if wanted else "g++ and clang++"
    raise Unavailable(
        f"No C++ compiler found (tried {tried}). The CPU rasteriser is compiled on first use: "
        "install one (Debian/Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; "
        "macOS: xcode-select --install) or point $CXX at it."
    )


def _processor() -> str:
    """What -march=native depends on: the instruction sets of this machine."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    # One processor is enough, and its clock and bogomips vary from boot to boot.
    names = ("model name", "flags", "Features", "CPU part")
    lines = [line for line in text.split("\n\n", maxsplit=1)[0].splitlines() if line[:1].isalpha()]
    return platform.machine() + "\n".join(line for line in lines if line.startswith(names))


def _compile(command: list[str], cwd: Path) -> None:
    """Runs the compiler.

    Raises:
        Unavailable: it failed or hung; the text holds what it wrote.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"The C++ compiler could not be run: {error}") from error
    if done.returncode != 0:
        raise Unavailable(
            f"The CPU rasteriser could not be compiled. Command: {shlex.join(command)}\n"
            f"{(done.stderr or done.stdout).strip()[-4000:]}"
        )


def build_library(
    cache_dir: Path | None = None, source_dir: Path | None = None, name: str = "glimpse3d"
) -> Path:
    """Path of the compiled library, compiled now unless the cache has it.

    Args:
        cache_dir: where built libraries are kept; None takes the folder of `_environment`.
        source_dir: whose C++ is compiled; None takes the product's own.
        name: what the library is called.

    Raises:
        Unavailable: the cache does not have it and there is no compiler, it failed, or the cache
            folder cannot be written.
    """
    wanted, environment_cache = _environment()
    folder = (cache_dir or environment_cache) / "native"
    source_dir = source_dir or SOURCE_DIR
    sources = sorted(source_dir.glob("*.cpp"))

    # Not the compiler's version: asking for it takes a compiler, which is wanted on a miss only.
    key = hashlib.sha256()
    for path in [*sources, *sorted(source_dir.glob("*.h"))]:
        key.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    machine = [*platform.libc_ver(), _processor()]
    key.update("\0".join([wanted or "", *FLAGS, *machine]).encode())
    library = folder / f"lib{name}-{key.hexdigest()[:16]}.so"
    if library.exists():
        return library

    compiler = find_compiler(wanted)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Built beside its place and renamed: a second process sees all of it or nothing, and two
        # that build at once both end with a whole file.
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as temporary:
            output = Path(temporary) / library.name
            command = [*compiler, *FLAGS, *map(str, sources), "-o", str(output)]
            _compile(command, Path(temporary))
            output.replace(library)
    except OSError as error:
        raise Unavailable(
            f"The compiled rasteriser cannot be kept in {folder}: {error}. "
            "Set $GLIMPSE3D_CACHE to a folder that can be written."
        ) from error
    return library


def load_library(cache_dir: Path | None = None) -> ctypes.CDLL:
    """The library, built if needed; one per process, `cache_dir` counts for the first call only.

    Raises:
        Unavailable: see `build_library`.
    """
    global _library  # noqa: PLW0603 - a process-wide cache, guarded by the lock
    with _lock:
        if _library is None:
            path = build_library(cache_dir)
            try:
                library = ctypes.CDLL(str(path))
            except OSError as error:
                raise Unavailable(f"The compiled rasteriser does not load: {error}") from error
            library.glimpse_set_threads(default_threads())
            _library = library
        return _library


def set_threads(count: int) -> None:
    """Use `count` (at least 1) threads in every loop of the library; results do not change."""
    load_library().glimpse_set_threads(max(1, count))


def default_threads() -> int:
    """Cores this process may use, as far as more of them help here."""
    return min(usable_cores(), MAX_THREADS)
