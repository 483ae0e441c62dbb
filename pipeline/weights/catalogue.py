"""Which models of several files exist, where they are to be had, and under which licence.

It does not know what an engine does with a model or what lies on this machine:
`pipeline.weights.folders` looks, `pipeline.weights.fetch` brings.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import InvalidOption

__all__ = [
    "BUNDLES",
    "ENGINE_NAMES",
    "Bundle",
    "BundleFile",
    "bundle_named",
    "bundles_of",
    "size_for_people",
]


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle.

    Attributes:
        path: in the repository and in the bundle's folder, with forward slashes.
        sha256: what it must be, lower-case hexadecimal; None for small files of text, which the
            pinned revision fixes.
    """

    path: str
    sha256: str | None = None


@dataclass(frozen=True)
class Bundle:
    """A model of several files from a repository of the model hub.

    Attributes:
        name: what people call it, unique in `BUNDLES`.
        folder: its folder inside the model directory.
        repo: repository of the hub, owner/name.
        revision: commit of the repository; None takes the newest at the first fetch and keeps it.
        files: what is taken from the repository.
        licence: of the weights, an SPDX name where there is one.
        commercial: whether the licence lets a business use it.
        size_bytes: about how much is fetched.
        purpose: one sentence.
        engine: the engine that loads it.
        needed: whether `engine` cannot work without it.
        space: the repository is a Space of the hub, not a model.
        converted: the only file is a checkpoint; the folder holds what is made of it.
        by_hand: where else the checkpoint is to be had, a sentence.
    """

    name: str
    folder: str
    repo: str
    revision: str | None
    files: tuple[BundleFile, ...]
    licence: str
    commercial: bool
    size_bytes: int
    purpose: str
    engine: str
    needed: bool = True
    space: bool = False
    converted: bool = False
    by_hand: str = ""

    @property
    def about(self) -> str:
        """Size and licence for messages."""
        use = "" if self.commercial else ", not for commercial use"
        return f"{size_for_people(self.size_bytes)}, licence {self.licence}{use}"


def size_for_people(size_bytes: float) -> str:
    """A size for people: "5.57 GB", "99 MB", "117 kB"."""
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:.2f} GB"
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"


OPENRAIL = "CreativeML-OpenRAIL++-M"


def _depth_files(sha256: str | None) -> tuple[BundleFile, ...]:
    return (
        BundleFile("config.json"),
        BundleFile("preprocessor_config.json"),
        BundleFile("model.safetensors", sha256),
    )


def _tokenizer_files(folder: str) -> tuple[BundleFile, ...]:
    names = ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")
    return tuple(BundleFile(f"{folder}/{name}") for name in names)


#: Every bundle an engine can load, by name.
BUNDLES: dict[str, Bundle] = {
    bundle.name: bundle
    for bundle in (
        Bundle(
            name="syncdreamer",
            folder="syncdreamer",
            repo="liuyuan-pal/SyncDreamer",
            revision="979cb09b52ec88d0a57994b4c7867e40d10492ca",
            files=(
                BundleFile(
                    "ckpt/syncdreamer-pretrain.ckpt",
                    "5ebb31334d9e4002b2590dd805e25238beaf95fa082f6e39a132344624448dcb",
                ),
            ),
            licence="MIT",
            commercial=True,
            size_bytes=5_570_034_171,
            purpose="Sixteen views of the object from one photo.",
            engine="syncdreamer",
            space=True,
            converted=True,
            by_hand=(
                "The README of github.com/liuyuan-pal/SyncDreamer says where its authors keep "
                "syncdreamer-pretrain.ckpt."
            ),
        ),
        Bundle(
            name="midas-large",
            folder="midas-large",
            repo="Intel/dpt-large",
            revision="bc15f29aa3a80d532f2ed650b5e16ac48d8958f9",
            files=_depth_files("c173e7fd575c4d6c2164621063fed3a0e7e2eb6adbfb7c1845b364bc0fed9ce8"),
            licence="Apache-2.0",
            commercial=True,
            size_bytes=1_367_456_044,
            purpose="Relative depth of a view.",
            engine="midas",
        ),
        Bundle(
            name="midas-hybrid",
            folder="midas-hybrid",
            repo="Intel/dpt-hybrid-midas",
            # Of a conversion to safetensors that its authors have not merged; main has a pickle.
            revision="17fb43d4437eb62c260a593400db13c22b04511a",
            files=_depth_files("9599793d3ce64d7ebc85657360831596c1df9abc61f6820fe623fe7efb2e29c5"),
            licence="Apache-2.0",
            commercial=True,
            size_bytes=490_000_000,
            purpose="Relative depth of a view, a third of the size of midas-large.",
            engine="midas",
            needed=False,
        ),
        Bundle(
            name="depth-anything-v2-small",
            folder="depth-anything-v2-small",
            repo="depth-anything/Depth-Anything-V2-Small-hf",
            revision="5426e4f0f36572d16453bbda7a8389317b1bef99",
            files=_depth_files("3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70"),
            licence="Apache-2.0",
            commercial=True,
            size_bytes=99_173_660,
            purpose="Relative depth of a view from a small network.",
            engine="midas",
            needed=False,
        ),
        Bundle(
            name="depth-anything-v2-base",
            folder="depth-anything-v2-base",
            repo="depth-anything/Depth-Anything-V2-Base-hf",
            revision="b1958afc87fb45a9e3746cb387596094de553ed8",
            files=_depth_files(None),
            licence="CC-BY-NC-4.0",
            commercial=False,
            size_bytes=390_000_000,
            purpose="Relative depth of a view, sharper than the small network.",
            engine="midas",
            needed=False,
        ),
        Bundle(
            name="sdxl-base",
            folder="sdxl-base",
            repo="stabilityai/stable-diffusion-xl-base-1.0",
            revision="462165984030d82259a11f4367a4eed129e94a7b",
            files=(
                BundleFile("LICENSE.md"),
                BundleFile("model_index.json"),
                BundleFile("scheduler/scheduler_config.json"),
                BundleFile("text_encoder/config.json"),
                BundleFile(
                    "text_encoder/model.fp16.safetensors",
                    "660c6f5b1abae9dc498ac2d21e1347d2abdb0cf6c0c0c8576cd796491d9a6cdd",
                ),
                BundleFile("text_encoder_2/config.json"),
                BundleFile(
                    "text_encoder_2/model.fp16.safetensors",
                    "ec310df2af79c318e24d20511b601a591ca8cd4f1fce1d8dff822a356bcdb1f4",
                ),
                *_tokenizer_files("tokenizer"),
                *_tokenizer_files("tokenizer_2"),
                BundleFile("unet/config.json"),
            ),
            licence=OPENRAIL,
            commercial=True,
            size_bytes=1_638_700_000,
            purpose="Text encoders and settings for the enhancer.",
            engine="sdxl",
        ),
        Bundle(
            name="sdxl-lightning-8step",
            folder="sdxl-lightning-8step",
            repo="ByteDance/SDXL-Lightning",
            revision="c9a24f48e1c025556787b0c58dd67a091ece2e44",
            files=(
                BundleFile("LICENSE.md"),
                BundleFile(
                    "sdxl_lightning_8step_unet.safetensors",
                    "471d8260fda0b17b8906feb24573ce64933d4b6b99ba7a1fa43ca051b994e869",
                ),
            ),
            licence=OPENRAIL,
            commercial=True,
            size_bytes=5_140_000_000,
            purpose="The enhancer's denoising network, distilled to eight steps.",
            engine="sdxl",
        ),
        Bundle(
            name="controlnet-depth-sdxl",
            folder="controlnet-depth-sdxl",
            repo="xinsir/controlnet-depth-sdxl-1.0",
            revision="961552fa2913e3aa82cdfb32cb51bf182d95207c",
            files=(
                BundleFile("config.json"),
                BundleFile(
                    "diffusion_pytorch_model.safetensors",
                    "ea3770af4c33ea8ba8dccc0106ec5d5c5c6e504eb382119a3ccac3c9d973d344",
                ),
            ),
            licence="Apache-2.0",
            commercial=True,
            size_bytes=2_502_139_104,
            purpose="Holds the enhancer to the depth of the model.",
            engine="sdxl",
        ),
        Bundle(
            name="controlnet-depth-sdxl-diffusers",
            folder="controlnet-depth-sdxl-diffusers",
            repo="diffusers/controlnet-depth-sdxl-1.0",
            revision="17bb97973f29801224cd66f192c5ffacf82648b4",
            files=(
                BundleFile("config.json"),
                BundleFile(
                    "diffusion_pytorch_model.fp16.safetensors",
                    "66a6813e6bd7270ecfe68206a59ddd605a011ae85321188376605c66e0a4f303",
                ),
            ),
            licence=OPENRAIL,
            commercial=True,
            size_bytes=2_502_139_134,
            purpose="The same from other authors.",
            engine="sdxl",
            needed=False,
        ),
        Bundle(
            name="sdxl-vae-fp16-fix",
            folder="sdxl-vae-fp16-fix",
            repo="madebyollin/sdxl-vae-fp16-fix",
            revision="207b116dae70ace3637169f1ddd2434b91b3a8cd",
            files=(
                BundleFile("config.json"),
                BundleFile(
                    "diffusion_pytorch_model.safetensors",
                    "1b909373b28f2137098b0fd9dbc6f97f8410854f31f84ddc9fa04b077b0ace2c",
                ),
            ),
            licence="MIT",
            commercial=True,
            size_bytes=334_643_238,
            purpose="Pictures to latents and back in half precision, for the enhancer.",
            engine="sdxl",
        ),
    )
}

#: What `bundles_of` takes: "gpu" and every engine.
ENGINE_NAMES: tuple[str, ...] = ("gpu", *dict.fromkeys(b.engine for b in BUNDLES.values()))


def bundle_named(name: str) -> Bundle:
    """The bundle of that name.

    Raises:
        InvalidOption: there is none.
    """
    if name not in BUNDLES:
        raise InvalidOption(f"There are no weights {name!r}; there are {sorted(BUNDLES)}.")
    return BUNDLES[name]


def bundles_of(engine: str) -> list[Bundle]:
    """What an engine cannot work without; "gpu" stands for all of them.

    Raises:
        InvalidOption: there is no such engine.
    """
    if engine not in ENGINE_NAMES:
        raise InvalidOption(f"There are no engines {engine!r}; there are {list(ENGINE_NAMES)}.")
    return [b for b in BUNDLES.values() if b.needed and engine in ("gpu", b.engine)]
