"""Which models of several files exist, under which licence, and whether they lie in the model
directory whole.

It does not know what an engine does with a model, it reads no settings by itself and it never
opens a connection: `pipeline.models.fetch` brings the files, and a missing model is `Unavailable`
with the command that does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.control import Control
from pipeline.errors import InvalidOption, Unavailable

__all__ = [
    "BUNDLES",
    "ENGINE_NAMES",
    "LOCK_NAME",
    "WORK_NAME",
    "Bundle",
    "BundleFile",
    "BundleState",
    "ByteCount",
    "Condition",
    "Lock",
    "LockedFile",
    "adopt",
    "bundle_named",
    "bundles_of",
    "condition_of",
    "find_bundle",
    "find_bundles",
    "found_bundles",
    "read_lock",
    "record",
    "sha256_of",
    "size_for_people",
    "verify",
    "write_lock",
]

#: Written last: a folder without it is not a model.
LOCK_NAME = "weights-lock.json"
#: Folder inside a bundle's folder for what is on its way: parts of files, results of a conversion.
WORK_NAME = ".fetch"

CHUNK_BYTES = 1 << 22


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


@dataclass(frozen=True)
class LockedFile:
    """What a file was when it was recorded."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Lock:
    """The record beside the files of a bundle: what they are and where they came from.

    Attributes:
        origin: "fetched", "adopted" or "converted".
        revision: commit of the repository; None where nobody knows it.
        recorded_at: ISO 8601, UTC.
        source: the checkpoint by file name, where `origin` is "converted".
    """

    bundle: str
    origin: str
    repo: str
    revision: str | None
    licence: str
    recorded_at: str
    files: Mapping[str, LockedFile]
    source: Mapping[str, LockedFile] = field(default_factory=dict)


def read_lock(folder: Path) -> Lock | None:
    """The record of a bundle's folder; None where there is none.

    Raises:
        Unavailable: it cannot be read.
    """
    path = folder / LOCK_NAME
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return Lock(**{**found, **{k: _locked_files(found[k]) for k in ("files", "source")}})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unavailable(f"{path} cannot be read: {error}") from error


def _locked_files(found: Mapping[str, Any]) -> dict[str, LockedFile]:
    return {path: LockedFile(**entry) for path, entry in found.items()}


def write_lock(
    folder: Path,
    bundle: Bundle,
    *,
    origin: str,
    revision: str | None,
    files: Mapping[str, LockedFile],
    source: Mapping[str, LockedFile] | None = None,
) -> None:
    """Record a bundle's folder as whole, in one step: there is never half a record."""
    lock = Lock(
        bundle=bundle.name,
        origin=origin,
        repo=bundle.repo,
        revision=revision,
        licence=bundle.licence,
        recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=dict(sorted(files.items())),
        source=dict(source or {}),
    )
    draft = folder / f"{LOCK_NAME}.new"
    draft.write_text(json.dumps(asdict(lock), indent=2) + "\n")
    draft.replace(folder / LOCK_NAME)


class Condition(StrEnum):
    """What lies in the folder of a bundle."""

    READY = "ready"
    #: Nothing, or only a part of it.
    MISSING = "missing"
    #: Recorded as whole, and is not any more.
    DAMAGED = "damaged"
    #: Whole, but of another commit than this version of the product was made for.
    OTHER_REVISION = "other revision"


@dataclass(frozen=True)
class BundleState:
    """Outcome of a look at a bundle that costs no reading of its files.

    Attributes:
        folder: None where no model directory is set.
        fault: what is wrong, a sentence; empty where nothing is.
    """

    condition: Condition
    folder: Path | None
    fault: str = ""


def condition_of(bundle: Bundle, model_dir: Path | None) -> BundleState:
    """Whether the files are there with their recorded sizes."""
    if model_dir is None:
        return BundleState(Condition.MISSING, None, "No model directory is set.")
    folder = model_dir / bundle.folder
    try:
        lock = read_lock(folder)
    except Unavailable as error:
        return BundleState(Condition.DAMAGED, folder, error.detail)
    if lock is None:
        there = "holds no complete model" if folder.is_dir() else "is not there"
        return BundleState(Condition.MISSING, folder, f"{folder} {there}.")
    if damage := _damage(bundle, folder, lock):
        return BundleState(Condition.DAMAGED, folder, damage)
    if bundle.revision and lock.revision not in (None, bundle.revision):
        fault = f"{folder} is of commit {lock.revision}, not {bundle.revision}."
        return BundleState(Condition.OTHER_REVISION, folder, fault)
    return BundleState(Condition.READY, folder)


def _damage(bundle: Bundle, folder: Path, lock: Lock) -> str:
    """The first file that is not as recorded, a sentence; empty where all are."""
    lost = [] if bundle.converted else [f.path for f in bundle.files if f.path not in lock.files]
    if lost:
        return f"{folder} is recorded without {lost}."
    for path, file in lock.files.items():
        size = _size(folder / path)
        if size is None:
            return f"{folder / path} is missing."
        if size != file.bytes:
            return f"{folder / path} has {size:,} bytes, not {file.bytes:,}."
    return ""


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def find_bundle(name: str, model_dir: Path | None) -> Path:
    """The folder of a bundle. It looks at names and sizes only and never downloads.

    Another revision than the pinned one is accepted: `fetch --revision` asks for one.

    Raises:
        InvalidOption: there is no bundle of that name.
        Unavailable: it is not there whole; the text says how to get it.
    """
    bundle = bundle_named(name)
    state = condition_of(bundle, model_dir)
    if state.folder is not None and state.condition in (Condition.READY, Condition.OTHER_REVISION):
        return state.folder
    setting = "" if model_dir else "Set MODEL_DIR to a folder and run "
    run = setting or "Run "
    allow = "" if bundle.commercial else f" --allow {name}"
    raise Unavailable(
        f"The weights {name!r} ({bundle.about}) were not found. {state.fault} {run}"
        f"`glimpse3d weights fetch {name}{allow}`."
    )


def find_bundles(names: Iterable[str], model_dir: Path | None) -> dict[str, Path]:
    """Folders of several bundles, by name, for an engine that needs them all.

    Raises:
        InvalidOption: there is no bundle of one of the names.
        Unavailable: some are not there whole; the text says which and how to get all of them.
    """
    found: dict[str, Path] = {}
    lacking: dict[str, Unavailable] = {}
    for name in names:
        try:
            found[name] = find_bundle(name, model_dir)
        except Unavailable as error:
            lacking[name] = error
    if len(lacking) > 1:
        listed = ", ".join(f"{name} ({bundle_named(name).about})" for name in lacking)
        setting = "Run" if model_dir else "Set MODEL_DIR to a folder and run"
        raise Unavailable(
            f"Weights were not found: {listed}. {setting} "
            f"`glimpse3d weights fetch {' '.join(lacking)}`."
        )
    if lacking:
        raise next(iter(lacking.values()))
    return found


def found_bundles(model_dir: Path | None) -> dict[str, str]:
    """A digest of each bundle that is there whole, by name: of its recorded checksums."""
    found: dict[str, str] = {}
    for name, bundle in BUNDLES.items():
        state = condition_of(bundle, model_dir)
        if state.folder is None or state.condition in (Condition.MISSING, Condition.DAMAGED):
            continue
        lock = read_lock(state.folder)
        if lock is not None:
            lines = "".join(f"{file.sha256} {path}\n" for path, file in sorted(lock.files.items()))
            found[name] = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    return found


class ByteCount:
    """Turns bytes that were read or received into progress, in steps that a bar can show."""

    def __init__(self, control: Control, total: int, verb: str) -> None:
        self._control = control
        self._total = max(total, 1)
        self._verb = verb
        self._step = self._total / 400
        self._reported = 0
        self.done = 0

    def add(self, count: int) -> None:
        """Count. Raises Cancelled if a stop was asked for."""
        self.done += count
        self._control.check()
        if abs(self.done - self._reported) >= self._step or self.done >= self._total:
            self._reported = self.done
            amount = f"{size_for_people(self.done)} of {size_for_people(self._total)}"
            self._control.step(self.done / self._total, f"{self._verb} {amount}")


def sha256_of(path: Path, on_bytes: Callable[[int], None] = lambda _count: None) -> str:
    """Checksum of a file; `on_bytes` hears how much was read and may raise."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


def record(
    folder: Path, paths: Iterable[str], control: Control, verb: str
) -> dict[str, LockedFile]:
    """Sizes and checksums of files as they are now."""
    sizes = {path: (folder / path).stat().st_size for path in paths}
    count = ByteCount(control, sum(sizes.values()), verb)
    return {p: LockedFile(size, sha256_of(folder / p, count.add)) for p, size in sizes.items()}


def verify(name: str, model_dir: Path | None, *, control: Control | None = None) -> list[str]:
    """Read every file of a bundle and compare it with its recorded checksum.

    Returns:
        a sentence for each fault; empty where there is none.

    Raises:
        InvalidOption: there is no bundle of that name.
        Unavailable: the bundle is not there.
        Cancelled: a stop was asked for.
    """
    bundle = bundle_named(name)
    state = condition_of(bundle, model_dir)
    if state.folder is None or state.condition is Condition.MISSING:
        find_bundle(name, model_dir)
    assert state.folder is not None
    try:
        lock = read_lock(state.folder)
    except Unavailable:
        lock = None
    if lock is None:
        return [state.fault]
    there = [path for path in lock.files if (state.folder / path).is_file()]
    now = record(state.folder, there, control or Control(), "checked")
    faults = [] if state.condition is Condition.READY else [state.fault]
    for path, file in now.items():
        if file.bytes == lock.files[path].bytes and file.sha256 != lock.files[path].sha256:
            faults.append(f"{state.folder / path} has changed: its checksum is another one.")
    return faults


def adopt(name: str, model_dir: Path | None, *, control: Control | None = None) -> Path:
    """Record a folder that somebody filled by hand, on a machine without a network.

    Files whose checksum is known must have it; what the others contain is taken as it is.

    Raises:
        InvalidOption: there is no such bundle, or it is one that is converted.
        Unavailable: a file is missing or not the one that is known, or there is no model
            directory.
        Cancelled: a stop was asked for.
    """
    bundle = bundle_named(name)
    if bundle.converted:
        raise InvalidOption(
            f"{name!r} is made from a checkpoint: run `glimpse3d weights convert {name} FILE`, or "
            f"copy a converted folder with its {LOCK_NAME}."
        )
    if model_dir is None:
        raise Unavailable("Set MODEL_DIR to the folder that holds the models.")
    folder = model_dir / bundle.folder
    missing = [file.path for file in bundle.files if not (folder / file.path).is_file()]
    if missing:
        raise Unavailable(f"{folder} lacks {missing}. They are in {bundle.repo} on the model hub.")
    files = record(folder, [f.path for f in bundle.files], control or Control(), "recorded")
    for file in bundle.files:
        if file.sha256 and files[file.path].sha256 != file.sha256:
            raise Unavailable(
                f"{folder / file.path} is damaged or another version: its sha256 is "
                f"{files[file.path].sha256}, not {file.sha256}."
            )
    write_lock(folder, bundle, origin="adopted", revision=None, files=files)
    return folder
