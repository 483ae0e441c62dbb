"""What of a machine shapes results: processor, cards, driver and CUDA; read from files, not asked.

It loads no library, so that whoever runs no engine may ask; it does not know which engine computes
where.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
from pathlib import Path
from typing import Any

#: Where NVIDIA's driver says what it is and what it drives.
_DRIVER = Path("/proc/driver/nvidia")


def processor() -> dict[str, str]:
    """Name of the first processor, and a digest of the instruction sets: native code is compiled
    for exactly these."""
    known = _processor("flags") + _processor("features")
    features = hashlib.sha256(f"{platform.machine()} {known}".encode()).hexdigest()
    return {"name": _processor("model name"), "features": f"sha256:{features}"}


def _processor(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo, or what Python knows of it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.split("\n\n", maxsplit=1)[0].splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == field:
            return value.strip()
    return platform.processor() or platform.machine()


def gpu() -> dict[str, Any]:
    """`cards` (names, in the order of their bus addresses), `driver`, and `cuda`, which torch was
    built for; empty where there is no NVIDIA driver."""
    version = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", _read(_DRIVER / "version"))
    if version is None:
        return {}
    cards = [
        found[1].strip()
        for path in sorted(_DRIVER.glob("gpus/*/information"))
        if (found := re.search(r"^Model:(.*)$", _read(path), re.MULTILINE))
    ]
    return {"cards": ", ".join(cards), "driver": version[1], "cuda": _cuda_of_torch() or "none"}


def _cuda_of_torch() -> str | None:
    """As `torch.version.cuda` has it, without loading torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = _read(Path(spec.origin).with_name("version.py"))
    found = re.search(r"^cuda\b.*=\s*['\"](.+?)['\"]\s*$", text, re.MULTILINE)
    return found[1] if found else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
