"""What is known of the engines that make a model of a photo in one pass; it imports none of them.

They are three settings of one architecture: TripoSplat, Idol, and Idol with the low-rank changes of
Idol Turbo. The encoders are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.engines.deg.deg_presets import DEG_PRESETS
from pipeline.engines.engine_spec import Demand, EngineSpec, Setup
from pipeline.errors import InvalidOption
from pipeline.ports import GeneratorEngine, PortName
from pipeline.weights.catalogue import Hub, WeightFile, Weights
from pipeline.weights.folders import find_all

#: What every engine of the family loads.
_SHARED = "deg"
_PACKAGES = ("diffusers", "safetensors", "transformers")


def _convert(sources: Sequence[Path], folder: Path, **options: Any) -> None:
    from pipeline.engines.deg.deg_networks import convert_checkpoints

    convert_checkpoints(sources, folder, **options)


# Sizes are those of the tensors, or published; nobody has told checksums of these repositories, and
# none could be read where this was written: a fetch takes the newest commit, checks what arrives
# against the hub's own checksums and keeps both in the lock file.
_TRIPOSPLAT = Weights(
    name="triposplat",
    files=(
        WeightFile("diffusion_models/triposplat_fp16.safetensors"),
        WeightFile("vae/triposplat_vae_decoder_fp16.safetensors"),
    ),
    licence="MIT",
    size_bytes=1_317_159_868,
    purpose="A splat model from one photo in one pass: TripoSplat's flow network and decoders.",
    source=Hub("VAST-AI/TripoSplat", None),
    engine="triposplat",
)
_DINO = Weights(
    name="dinov3-vith16plus",
    files=(WeightFile("clip_vision/dino_v3_vit_h.safetensors"),),
    licence="DINOv3 License",
    size_bytes=1_681_185_280,
    purpose="What the engines that make a model in one pass see in a photo.",
    source=Hub("VAST-AI/TripoSplat", None),
    engine=_SHARED,
    terms=(
        "Meta's DINOv3 License allows commercial use under terms of its own, which stand beside "
        'its models; what is built with them shows "Built with DINOv3".'
    ),
    shown="Built with DINOv3",
)
_VAE = Weights(
    name="flux2-vae",
    files=(WeightFile("vae/flux2-vae.safetensors"),),
    licence="Apache-2.0",
    size_bytes=336_185_488,
    purpose=(
        "Colours and shapes of a photo for the same engines: the FLUX.2 autoencoder, as "
        "TripoSplat's authors pass it on; Apache-2.0 if it is FLUX.2-klein-4B's, which they do not "
        "say."
    ),
    source=Hub("VAST-AI/TripoSplat", None),
    engine=_SHARED,
)
_VAE_KLEIN = Weights(
    name="flux2-vae-klein",
    files=(WeightFile("flux2-vae.safetensors", found_as="vae/*.safetensors"),),
    licence="Apache-2.0",
    size_bytes=336_185_488,
    purpose="The same autoencoder from its authors, out of FLUX.2-klein-4B.",
    source=Hub("black-forest-labs/FLUX.2-klein-4B", None),
    engine=_SHARED,
    needed=False,
)
_VAE_DEV = Weights(
    name="flux2-vae-dev",
    files=(WeightFile("flux2-vae.safetensors", found_as="vae/*.safetensors"),),
    licence="FLUX.2-dev (NC)",
    commercial=False,
    size_bytes=336_185_488,
    purpose="The same autoencoder out of FLUX.2-dev, whose repository is open to few.",
    source=Hub("black-forest-labs/FLUX.2-dev", None),
    engine=_SHARED,
    needed=False,
)
_IDOL = Weights(
    name="idol",
    files=(
        WeightFile("denoiser.safetensors"),
        WeightFile("decoder.safetensors"),
        WeightFile("decoder_gs.safetensors"),
    ),
    licence="Apache-2.0",
    size_bytes=2_634_418_040,
    purpose="A splat model from one photo in one pass, up to a million splats: Idol, as released.",
    source=Hub(
        "speridlabs/idol",
        None,
        convert=_convert,
        by_hand="The three files lie in speridlabs/idol on the model hub.",
    ),
    engine="idol",
)
_IDOL_FP16 = Weights(
    name="idol-fp16",
    files=(
        WeightFile("diffusion_models/idol_fp16.safetensors"),
        WeightFile("vae/idol_decoder_fp16.safetensors"),
    ),
    licence="Apache-2.0",
    size_bytes=1_317_159_868,
    purpose="The same in half of the bytes, as others have packed it.",
    source=Hub("Comfy-Org/Idol", None),
    engine="idol",
    needed=False,
)
_TURBO = Weights(
    name="idol-turbo",
    files=(
        WeightFile("slow.safetensors", found_as="*slow*.safetensors"),
        WeightFile("fast.safetensors", found_as="*fast*.safetensors"),
    ),
    licence="unknown",
    commercial=False,
    size_bytes=117_440_512,
    purpose="Low-rank changes that let Idol do with five steps.",
    source=Hub("akhaliq/idol-turbo", None),
    engine="idol-turbo",
    terms=(
        "Under which licence it may be used is not known: ask its authors, and take it for "
        "nothing commercial before they have answered."
    ),
)

#: What may be chosen; the first of each is the default.
_VAES = {weights.name: weights for weights in (_VAE, _VAE_KLEIN, _VAE_DEV)}
_IDOLS = {weights.name: weights for weights in (_IDOL, _IDOL_FP16)}


def _chosen(what: str, among: dict[str, Weights], setup: Setup) -> tuple[Weights, Setup]:
    """The bundle that an option names, and the setup without it."""
    name, rest = setup.take(what, next(iter(among)))
    if name not in among:
        raise InvalidOption(f"{what} must be one of {list(among)}, got {name!r}")
    return among[name], rest


def _weight_files(weights: Weights, folder: Path) -> list[Path]:
    """Of a bundle; of one that we made, what the folder holds."""
    if weights.converted:
        return sorted(folder.glob("*.safetensors"))
    return [folder / file.path for file in weights.files]


def _load(base: Weights, setup: Setup, *more: Weights) -> GeneratorEngine:
    from pipeline.engines.deg.deg_decoder import DecoderNetworks
    from pipeline.engines.deg.deg_engine import DegEngine
    from pipeline.engines.deg.deg_networks import DegFiles, load_encoders, load_networks

    vae, rest = _chosen("vae", _VAES, setup)
    wanted = (base, _DINO, vae, *more)

    def make() -> GeneratorEngine:
        folders = find_all(wanted, setup.model_dir)
        found = [tuple(_weight_files(*pair)) for pair in zip(wanted, folders, strict=True)]
        files = DegFiles(folders[0], found[0], found[1], found[2], *found[3:])
        device = setup.device
        with device.reporting_faults(f"Loading the {setup.engine} engine"):
            encoders = load_encoders(files, device.torch_device, device.dtype)
            networks = load_networks(files, device.torch_device, device.dtype)
        decoders = DecoderNetworks(networks.octree, networks.gaussians)
        preset = DEG_PRESETS[setup.engine]
        shown = tuple(weights.shown for weights in wanted if weights.shown)
        return DegEngine(preset, files.config, encoders, networks.flow, decoders, device, shown)

    return rest.with_options(make)


def _triposplat(setup: Setup) -> GeneratorEngine:
    return _load(_TRIPOSPLAT, setup)


def _idol(setup: Setup) -> GeneratorEngine:
    base, rest = _chosen("weights", _IDOLS, setup)
    return _load(base, rest)


def _idol_turbo(setup: Setup) -> GeneratorEngine:
    base, rest = _chosen("weights", _IDOLS, setup)
    return _load(base, rest, _TURBO)


# Weights are counted. Room to work in is derived from the sizes of tensors at full size, 1.2 GB at
# the first layers of the autoencoder, with as much again in part for what kernels and a drawn
# model take: `python -m bench.gpu deg` compares it with what is taken.
_WORKING_GIB = 2.0

TRIPOSPLAT = EngineSpec(
    PortName.GENERATOR,
    "triposplat",
    _triposplat,
    demand=Demand(weights=2.91, working=_WORKING_GIB),
    options=("vae",),
    weights=(_TRIPOSPLAT, _DINO, *_VAES.values()),
    packages=_PACKAGES,
    check=DEG_PRESETS["triposplat"].check,
)
IDOL = EngineSpec(
    PortName.GENERATOR,
    "idol",
    _idol,
    demand=Demand(weights=2.91, working=_WORKING_GIB),
    options=("weights", "vae"),
    weights=(*_IDOLS.values(), _DINO, *_VAES.values()),
    packages=_PACKAGES,
    check=DEG_PRESETS["idol"].check,
)
IDOL_TURBO = EngineSpec(
    PortName.GENERATOR,
    "idol-turbo",
    _idol_turbo,
    # What the changes are added to is there twice.
    demand=Demand(weights=3.57, working=_WORKING_GIB),
    options=("weights", "vae"),
    weights=(*_IDOLS.values(), _TURBO, _DINO, *_VAES.values()),
    packages=_PACKAGES,
    check=DEG_PRESETS["idol-turbo"].check,
)
