"""A model directory with tiny random models in place of everything that would be fetched."""

from __future__ import annotations

from pathlib import Path

from pipeline.control import Control
from pipeline.engines.registry import weights_catalogue
from pipeline.weights.locks import record, write_lock
from tests.pipeline.engines.deg.layouts import write_tiny_deg, write_turbo
from tests.tiny.depth import write_tiny_depth
from tests.tiny.sdxl import TINY_RESOLUTION, write_tiny_sdxl
from tests.tiny.syncdreamer import write_tiny_syncdreamer

__all__ = [
    "TINY_OPTIONS",
    "write_tiny_bundle",
    "write_tiny_enhancer",
    "write_tiny_generator",
    "write_tiny_models",
]

#: Engine options that the tiny models need.
TINY_OPTIONS = {"enhancer": {"resolution": TINY_RESOLUTION}}


def write_tiny_bundle(model_dir: Path, name: str) -> Path:
    """A bundle of one folder: "syncdreamer" or one of the depth networks."""
    folder = model_dir / name
    if name == "syncdreamer":
        write_tiny_syncdreamer(folder)
    else:
        write_tiny_depth(folder, "dpt" if name.startswith("midas") else "depth-anything")
    _lock(folder, name)
    return folder


def write_tiny_generator(model_dir: Path, engine: str = "triposplat") -> None:
    """Everything that an engine loads that makes a model in one pass: "triposplat", "idol" or
    "idol-turbo". The networks are those of the golden run."""
    base = "triposplat" if engine == "triposplat" else "idol"
    for name in (base, "dinov3-vith16plus", "flux2-vae"):
        write_tiny_deg(model_dir / name, name)
        _lock(model_dir / name, name)
    if engine == "idol-turbo":
        write_turbo(model_dir / engine)
        _lock(model_dir / engine, engine)


def write_tiny_models(model_dir: Path) -> None:
    """Everything that `engines: gpu` loads."""
    write_tiny_bundle(model_dir, "syncdreamer")
    write_tiny_bundle(model_dir, "midas-large")
    write_tiny_enhancer(model_dir)


def write_tiny_enhancer(model_dir: Path) -> None:
    """Everything that the SDXL enhancer loads."""
    written = write_tiny_sdxl(model_dir / "tiny")
    lightning = model_dir / "sdxl-lightning-8step"
    lightning.mkdir()
    written.unet.rename(lightning / written.unet.name)
    for name, path in (
        ("sdxl-base", written.base),
        ("controlnet-depth-sdxl", written.controlnet),
        ("sdxl-vae-fp16-fix", written.vae),
    ):
        path.rename(model_dir / name)
    (model_dir / "tiny").rmdir()
    for name in ("sdxl-base", "sdxl-lightning-8step", "controlnet-depth-sdxl", "sdxl-vae-fp16-fix"):
        _lock(model_dir / name, name)


def _lock(folder: Path, name: str) -> None:
    """As a fetch would: the folder counts as whole. Texts that nobody reads are one line."""
    bundle = weights_catalogue().bundle(name)
    if not bundle.converted:
        for file in bundle.files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text("{}\n")
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    recorded = record(folder, files, Control(), "recorded")
    write_lock(folder, bundle, origin="tiny", revision=None, files=recorded)
