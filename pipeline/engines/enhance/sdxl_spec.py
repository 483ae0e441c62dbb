"""What is known of the SDXL enhancer; it imports nothing of it."""

from __future__ import annotations

from pipeline.engines.engine_spec import Demand, EngineSpec, Setup, fault_of
from pipeline.engines.enhance.sdxl_limits import refuse_negative_prompt, steps_for
from pipeline.errors import InvalidOption
from pipeline.options import JobOptions, RefineOptions
from pipeline.ports import EnhancerEngine, PortName
from pipeline.weights.catalogue import Hub, WeightFile, Weights
from pipeline.weights.folders import find_all

OPENRAIL = "CreativeML-OpenRAIL++-M"
_UNET_FILE = "sdxl_lightning_8step_unet.safetensors"


def _tokenizer(folder: str) -> tuple[WeightFile, ...]:
    names = ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")
    return tuple(WeightFile(f"{folder}/{name}") for name in names)


_BASE = Weights(
    name="sdxl-base",
    files=(
        WeightFile("LICENSE.md"),
        WeightFile("model_index.json"),
        WeightFile("scheduler/scheduler_config.json"),
        WeightFile("text_encoder/config.json"),
        WeightFile(
            "text_encoder/model.fp16.safetensors",
            "660c6f5b1abae9dc498ac2d21e1347d2abdb0cf6c0c0c8576cd796491d9a6cdd",
        ),
        WeightFile("text_encoder_2/config.json"),
        WeightFile(
            "text_encoder_2/model.fp16.safetensors",
            "ec310df2af79c318e24d20511b601a591ca8cd4f1fce1d8dff822a356bcdb1f4",
        ),
        *_tokenizer("tokenizer"),
        *_tokenizer("tokenizer_2"),
        WeightFile("unet/config.json"),
    ),
    licence=OPENRAIL,
    size_bytes=1_638_700_000,
    purpose="Text encoders and settings for the enhancer.",
    source=Hub(
        "stabilityai/stable-diffusion-xl-base-1.0", "462165984030d82259a11f4367a4eed129e94a7b"
    ),
    engine="sdxl",
)
_LIGHTNING = Weights(
    name="sdxl-lightning-8step",
    files=(
        WeightFile("LICENSE.md"),
        WeightFile(_UNET_FILE, "471d8260fda0b17b8906feb24573ce64933d4b6b99ba7a1fa43ca051b994e869"),
    ),
    licence=OPENRAIL,
    size_bytes=5_140_000_000,
    purpose="The enhancer's denoising network, distilled to eight steps.",
    source=Hub("ByteDance/SDXL-Lightning", "c9a24f48e1c025556787b0c58dd67a091ece2e44"),
    engine="sdxl",
)
_CONTROLNET = Weights(
    name="controlnet-depth-sdxl",
    files=(
        WeightFile("config.json"),
        WeightFile(
            "diffusion_pytorch_model.safetensors",
            "ea3770af4c33ea8ba8dccc0106ec5d5c5c6e504eb382119a3ccac3c9d973d344",
        ),
    ),
    licence="Apache-2.0",
    size_bytes=2_502_139_104,
    purpose="Holds the enhancer to the depth of the model.",
    source=Hub("xinsir/controlnet-depth-sdxl-1.0", "961552fa2913e3aa82cdfb32cb51bf182d95207c"),
    engine="sdxl",
)
_OTHER_CONTROLNET = Weights(
    name="controlnet-depth-sdxl-diffusers",
    files=(
        WeightFile("config.json"),
        WeightFile(
            "diffusion_pytorch_model.fp16.safetensors",
            "66a6813e6bd7270ecfe68206a59ddd605a011ae85321188376605c66e0a4f303",
        ),
    ),
    licence=OPENRAIL,
    size_bytes=2_502_139_134,
    purpose="The same from other authors.",
    source=Hub("diffusers/controlnet-depth-sdxl-1.0", "17bb97973f29801224cd66f192c5ffacf82648b4"),
    engine="sdxl",
    needed=False,
)
_VAE = Weights(
    name="sdxl-vae-fp16-fix",
    files=(
        WeightFile("config.json"),
        WeightFile(
            "diffusion_pytorch_model.safetensors",
            "1b909373b28f2137098b0fd9dbc6f97f8410854f31f84ddc9fa04b077b0ace2c",
        ),
    ),
    licence="MIT",
    size_bytes=334_643_238,
    purpose="Pictures to latents and back in half precision, for the enhancer.",
    source=Hub("madebyollin/sdxl-vae-fp16-fix", "207b116dae70ace3637169f1ddd2434b91b3a8cd"),
    engine="sdxl",
)

#: What may hold the network to the depth; the first is the default.
_CONTROLNETS = {weights.name: weights for weights in (_CONTROLNET, _OTHER_CONTROLNET)}


def _sdxl(setup: Setup) -> EnhancerEngine:
    from pipeline.engines.enhance.sdxl import SdxlEnhancer, SdxlFolders, SdxlOptions

    net, rest = setup.take("controlnet", _CONTROLNET.name)
    if net not in _CONTROLNETS:
        raise InvalidOption(f"controlnet must be one of {list(_CONTROLNETS)}, got {net!r}")
    options = rest.with_options(SdxlOptions)
    unet, base, controlnet, vae = find_all(
        (_LIGHTNING, _BASE, _CONTROLNETS[net], _VAE), setup.model_dir
    )
    folders = SdxlFolders(base, unet / _UNET_FILE, controlnet, vae)
    return SdxlEnhancer.load(folders, setup.device, options)


def _check(options: JobOptions) -> tuple[str, ...]:
    """What the engine would refuse in the first round; later ones are never weaker than one step
    where the first one was not."""
    if not isinstance(options, RefineOptions):
        return ()
    return (
        *fault_of(lambda: steps_for(options.strength)),
        *fault_of(lambda: refuse_negative_prompt(options.negative_prompt)),
    )


SDXL = EngineSpec(
    PortName.ENHANCER,
    "sdxl",
    _sdxl,
    presets=("gpu",),
    demand=Demand(weights=7.27, working=3.0),
    options=(
        "controlnet",
        "resolution",
        "grid",
        "cross_view",
        "controlnet_scale",
        "views_at_once",
        "low_frequency_sigma",
        "prompt",
        "keep_text_encoders",
    ),
    weights=(_BASE, _LIGHTNING, _CONTROLNET, _OTHER_CONTROLNET, _VAE),
    packages=("accelerate", "diffusers", "safetensors", "transformers"),
    check=_check,
)
