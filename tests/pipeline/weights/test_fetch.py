"""Weights from a hub on this machine: whole, broken off, altered, refused, converted."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.control import Control, Progress
from pipeline.engines.registry import weights_catalogue
from pipeline.errors import Cancelled, Conflict, InvalidOption, Unavailable
from pipeline.weights import fetch as fetch_module
from pipeline.weights.catalogue import Hub as HubSource
from pipeline.weights.catalogue import WeightFile, Weights
from pipeline.weights.fetch import WORK_NAME, convert, fetch
from pipeline.weights.folders import Condition, adopt, find, find_all, state_of
from pipeline.weights.locks import LOCK_NAME, read_lock
from tests.hub import COMMIT, FILES, NEWEST, REPO, Hub, running_hub

BIG = FILES["model.safetensors"]
TINY = Weights(
    name="tiny",
    files=tuple(WeightFile(path) for path in FILES),
    licence="MIT",
    size_bytes=sum(map(len, FILES.values())),
    purpose="Tests.",
    source=HubSource(REPO, COMMIT),
    engine="tests",
)
CHECKPOINT = b"a pickle" * 100
#: How the converter was called.
CALLS: list[dict[str, Any]] = []


def convert_checkpoint(sources: Sequence[Path], folder: Path, **options: Any) -> None:
    CALLS.append(options)
    (source,) = sources
    if source.read_bytes() == b"no pickle":
        raise Unavailable("not a checkpoint")
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights.safetensors").write_bytes(source.read_bytes()[::-1])
    (folder / "config.json").write_bytes(b"{}")


CONVERTED = replace(
    TINY,
    name="made",
    files=(WeightFile("ckpt/net.ckpt", hashlib.sha256(CHECKPOINT).hexdigest()),),
    source=HubSource(
        REPO, COMMIT, space=True, convert=convert_checkpoint, by_hand="Ask its authors."
    ),
)

Fetch = Callable[..., Path]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody connects to another machine."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    connect = socket.socket.connect

    def only_here(self: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1", address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_here)


@pytest.fixture
def get(hub: Hub, tmp_path: Path) -> Fetch:
    def call(bundle: Weights = TINY, **options: Any) -> Path:
        return fetch(bundle, tmp_path, endpoint=hub.endpoint, **options)

    return call


def content_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK_NAME)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_fetch_brings_every_file_and_then_the_lock(get: Fetch, hub: Hub, tmp_path: Path) -> None:
    reports: list[Progress] = []
    folder = get(control=Control(report_to=reports.append))
    assert folder == tmp_path / "tiny"
    assert content_of(folder) == FILES
    assert find(TINY, tmp_path) == folder
    lock = read_lock(folder)
    assert lock is not None
    assert (lock.origin, lock.repo, lock.revision, lock.licence) == (
        "fetched",
        REPO,
        COMMIT,
        "MIT",
    )
    assert {path: file.sha256 for path, file in lock.files.items()} == {
        path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()
    }
    assert [report.fraction for report in reports] == sorted(r.fraction for r in reports)
    assert "kB" in reports[0].message
    asked = len(hub.asked)
    assert get() == folder
    assert (hub.listings, len(hub.asked)) == (1, asked), "what is there is not asked for again"


def test_other_files_of_the_repository_stay_there(get: Fetch, hub: Hub) -> None:
    hub.commits[COMMIT]["flax_model.msgpack"] = b"large"
    assert content_of(get()) == FILES


def test_the_pinned_revision_is_taken_and_another_one_where_it_is_asked_for(
    get: Fetch, hub: Hub, tmp_path: Path
) -> None:
    hub.commits[NEWEST]["config.json"] = b"{}"
    folder = get()
    assert (folder / "config.json").read_bytes() == FILES["config.json"]
    get(revision="main")
    assert (folder / "config.json").read_bytes() == b"{}"
    state = state_of(TINY, tmp_path)
    assert state.condition is Condition.OTHER_REVISION
    assert NEWEST in state.fault
    assert find(TINY, tmp_path) == folder
    get()
    assert state_of(TINY, tmp_path).condition is Condition.READY


def test_a_bundle_without_a_pin_keeps_the_commit_it_was_first_fetched_at(
    get: Fetch, hub: Hub, tmp_path: Path
) -> None:
    loose = replace(TINY, source=HubSource(REPO, None))
    folder = get(loose)
    first = read_lock(folder)
    assert first is not None
    assert first.revision == NEWEST
    hub.commits["c" * 40] = {**FILES, "config.json": b"newer"}
    hub.branches["main"] = "c" * 40
    (folder / "config.json").write_bytes(b"damaged")
    get(loose)
    assert content_of(folder) == FILES
    again = read_lock(folder)
    assert again is not None
    assert again.revision == NEWEST


def test_a_transfer_that_breaks_off_goes_on_there(get: Fetch, hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = 60_000
    with pytest.raises(Unavailable, match=r"could not be reached.*weights fetch tiny"):
        get()
    folder = tmp_path / "tiny"
    assert not (folder / LOCK_NAME).exists()
    assert state_of(TINY, tmp_path).condition is Condition.MISSING
    with pytest.raises(Unavailable):
        find(TINY, tmp_path)
    hub.cut_after = None
    hub.asked.clear()
    get()
    assert content_of(folder) == FILES
    assert hub.asked == [("model.safetensors", "bytes=60000-")], "only the rest"
    assert not (folder / WORK_NAME).exists()


def test_a_server_that_cannot_go_on_sends_the_whole_file(get: Fetch, hub: Hub) -> None:
    hub.cut_after = 60_000
    with pytest.raises(Unavailable):
        get()
    hub.cut_after, hub.ignores_ranges = None, True
    assert content_of(get()) == FILES


@pytest.mark.parametrize("path", ["model.safetensors", "config.json"])
def test_wrong_bytes_are_thrown_away(get: Fetch, hub: Hub, tmp_path: Path, path: str) -> None:
    hub.altered.add(path)
    with pytest.raises(Unavailable, match=f"{path} of {REPO} arrived with another content"):
        get()
    assert state_of(TINY, tmp_path).condition is Condition.MISSING
    assert not (tmp_path / "tiny" / path).exists()
    hub.altered.clear()
    assert content_of(get()) == FILES


def test_a_hub_that_offers_another_file_than_the_known_one_is_refused(
    get: Fetch, hub: Hub, tmp_path: Path
) -> None:
    strict = replace(TINY, files=(WeightFile("model.safetensors", "0" * 64),))
    with pytest.raises(Unavailable, match=r"offers another model\.safetensors"):
        get(strict)
    assert not hub.asked
    get(strict, revision=NEWEST)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": HubSource("someone/else", COMMIT)}, "no public repository someone/else"),
        ({"source": HubSource(REPO, "f" * 40)}, "has no revision f"),
        ({"files": (WeightFile("other.bin"),)}, r"does not describe a file other\.bin"),
    ],
)
def test_what_the_hub_does_not_have_is_named(get: Fetch, change: Any, said: str) -> None:
    with pytest.raises(Unavailable, match=said):
        get(replace(TINY, **change))


def test_a_hub_that_is_away_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unavailable, match="could not be reached"):
            fetch(TINY, tmp_path, endpoint=endpoint)


def test_a_full_disk_is_told_before_anything_is_fetched(
    get: Fetch, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1_000_000))
    with pytest.raises(Unavailable, match=r"need 100 MB more on the disk of .*1 MB are free"):
        get()
    assert not hub.asked


@pytest.mark.parametrize("by", ["argument", "library"])
def test_offline_nothing_is_asked(
    get: Fetch, hub: Hub, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    folder = get()
    (folder / "config.json").unlink()
    hub.listings = 0
    options = {"offline": True}
    if by == "library":
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        options = {}
    with pytest.raises(Unavailable, match=r"no connection may be opened.*weights adopt tiny"):
        get(**options)
    assert hub.listings == 0
    (folder / "config.json").write_bytes(FILES["config.json"])
    assert get(**options) == folder, "what is there needs no connection"


def test_weights_that_forbid_commercial_use_are_taken_by_name_only(get: Fetch, hub: Hub) -> None:
    hobby = replace(TINY, licence="CC-BY-NC-4.0", commercial=False)
    with pytest.raises(InvalidOption, match=r"CC-BY-NC-4\.0.*--allow tiny"):
        get(hobby, allow=["another"])
    assert hub.listings == 0
    assert content_of(get(hobby, allow=["tiny"])) == FILES


TERMS = replace(TINY, licence="Ours", terms="Show our name.")


def test_weights_with_terms_are_taken_by_those_who_agree_by_name(
    get: Fetch, hub: Hub, tmp_path: Path
) -> None:
    told = r"'tiny', licence Ours: Show our name\. Whoever agrees adds `--allow tiny`"
    with pytest.raises(InvalidOption, match=told):
        get(TERMS, allow=["another"])
    assert hub.listings == 0
    with pytest.raises(Unavailable, match=r"weights fetch tiny --allow tiny"):
        find(TERMS, tmp_path)
    folder = get(TERMS, allow=["tiny"])
    assert content_of(folder) == FILES
    (folder / LOCK_NAME).unlink()
    with pytest.raises(InvalidOption, match=told):
        adopt(TERMS, tmp_path)
    assert adopt(TERMS, tmp_path, allow=["tiny"]) == folder


def test_what_is_needed_together_is_agreed_to_together(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"`glimpse3d weights fetch tiny more --allow more`"):
        find_all((TINY, replace(TERMS, name="more")), tmp_path)


LOOSE = replace(TINY, files=(WeightFile("slow.safetensors", found_as="*slow*.safetensors"),))


def test_a_file_whose_name_is_not_known_is_the_one_that_looks_like_it(
    get: Fetch, hub: Hub, tmp_path: Path
) -> None:
    hub.commits[COMMIT] = {"lora/Net_SLOW_r32.safetensors": BIG, "lora/fast.safetensors": b"x"}
    assert content_of(get(LOOSE)) == {"slow.safetensors": BIG}
    assert hub.paths_asked == ["lora/Net_SLOW_r32.safetensors"]
    assert find(LOOSE, tmp_path)
    assert get(LOOSE, repair=True)
    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("there", "said"),
    [((), "none"), (("a-slow", "b-slow"), r"a-slow\.safetensors, b-slow\.safetensors")],
)
def test_where_none_or_several_look_like_it_nothing_is_guessed(
    get: Fetch, hub: Hub, there: tuple[str, ...], said: str
) -> None:
    hub.commits[COMMIT] = {f"{name}.safetensors": BIG for name in there} | {"README.md": b"."}
    with pytest.raises(
        Unavailable, match=r"one file \*slow\*\.safetensors to become slow.*" + said
    ):
        get(LOOSE)
    assert not hub.asked


def join(sources: Sequence[Path], folder: Path, **_: Any) -> None:
    folder.mkdir()
    whole = b"".join(source.read_bytes() for source in sources)
    (folder / "whole.safetensors").write_bytes(whole)


#: Made of two files, whose checksums nobody has told.
JOINED = replace(
    TINY,
    files=(WeightFile("b.safetensors"), WeightFile("a.safetensors")),
    source=HubSource(REPO, COMMIT, convert=join, by_hand="Ask its authors."),
)


def test_a_folder_is_made_of_several_files(get: Fetch, hub: Hub, tmp_path: Path) -> None:
    hub.commits[COMMIT] = {"a.safetensors": b"A", "b.safetensors": b"B"}
    folder = get(JOINED)
    assert content_of(folder) == {"whole.safetensors": b"BA"}
    lock = read_lock(folder)
    assert lock is not None
    assert set(lock.source) == {"a.safetensors", "b.safetensors"}
    here = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path, content in zip(here, (b"1", b"2"), strict=True):
        path.write_bytes(content)
    with pytest.raises(InvalidOption, match=r"is made of b\.safetensors, a\.safetensors; name all"):
        convert(JOINED, here[:1], tmp_path)
    assert content_of(convert(JOINED, here, tmp_path)) == {"whole.safetensors": b"12"}
    with pytest.raises(InvalidOption, match="weights convert tiny FILE FILE`"):
        adopt(JOINED, tmp_path)


def test_a_stop_keeps_what_has_arrived(get: Fetch, hub: Hub, tmp_path: Path) -> None:
    stop = threading.Event()

    def at_some_point(progress: Progress) -> None:
        if progress.fraction > 0.11:
            stop.set()

    with pytest.raises(Cancelled):
        get(control=Control(stop, at_some_point))
    assert state_of(TINY, tmp_path).condition is Condition.MISSING
    assert list((tmp_path / "tiny" / WORK_NAME).iterdir())
    assert content_of(get()) == FILES


def test_repair_brings_only_what_has_changed(get: Fetch, hub: Hub) -> None:
    folder = get()
    (folder / "model.safetensors").write_bytes(b"!" + BIG[1:])
    hub.asked.clear()
    assert get() == folder
    assert not hub.asked, "a look at the sizes sees nothing"
    get(repair=True)
    assert content_of(folder) == FILES
    assert hub.paths_asked == ["model.safetensors"]


def test_files_that_lie_there_without_a_lock_are_not_fetched_again(
    get: Fetch, hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.safetensors").write_bytes(BIG)
    get()
    assert "model.safetensors" not in hub.paths_asked
    assert len(hub.asked) == len(FILES) - 1


def test_two_fetches_into_one_folder_do_not_meet(get: Fetch, tmp_path: Path) -> None:
    with (
        fetch_module._alone(tmp_path / "tiny"),
        pytest.raises(Conflict, match="Another process"),
    ):
        get()


def test_a_model_directory_that_cannot_be_written_is_a_sentence(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable, match="cannot be written"):
        fetch(TINY, tmp_path / "file", endpoint=hub.endpoint)


@pytest.fixture
def converter() -> list[dict[str, Any]]:
    """Calls of the converter, from now on."""
    CALLS.clear()
    return CALLS


def test_a_checkpoint_of_a_space_is_fetched_and_converted(
    get: Fetch, hub: Hub, tmp_path: Path, converter: list[dict[str, Any]]
) -> None:
    hub.kind = "spaces"
    hub.commits = {COMMIT: {"ckpt/net.ckpt": CHECKPOINT}}
    folder = get(CONVERTED, precision="fp16")
    assert content_of(folder) == {
        "unet/weights.safetensors": CHECKPOINT[::-1],
        "config.json": b"{}",
    }
    lock = json.loads((folder / LOCK_NAME).read_text())
    assert lock["origin"] == "converted"
    assert lock["revision"] == COMMIT
    assert lock["source"] == {
        "net.ckpt": {"bytes": len(CHECKPOINT), "sha256": CONVERTED.files[0].sha256}
    }
    assert converter[0]["dtype"] is torch.float16
    assert find(CONVERTED, tmp_path) == folder
    assert get(CONVERTED) == folder
    assert get(CONVERTED, repair=True) == folder
    assert (len(converter), len(hub.asked)) == (1, 1), "what is unchanged is not made again"
    (folder / "config.json").write_bytes(b"[]")
    (folder / "model-00009.safetensors").write_bytes(b"of an earlier conversion")
    get(CONVERTED, repair=True)
    assert content_of(folder) == {
        "unet/weights.safetensors": CHECKPOINT[::-1],
        "config.json": b"{}",
    }


def test_a_checkpoint_at_hand_is_converted_without_the_hub(
    tmp_path: Path, converter: list[dict[str, Any]]
) -> None:
    source = tmp_path / "downloaded.ckpt"
    source.write_bytes(CHECKPOINT)
    folder = convert(CONVERTED, [source], tmp_path / "models")
    assert "dtype" not in converter[0]
    lock = read_lock(folder)
    assert lock is not None
    assert list(lock.source) == ["downloaded.ckpt"]
    assert source.read_bytes() == CHECKPOINT
    assert find(CONVERTED, tmp_path / "models") == folder


def test_another_checkpoint_is_converted_only_where_it_is_trusted(
    tmp_path: Path, converter: list[dict[str, Any]]
) -> None:
    source = tmp_path / "own.ckpt"
    source.write_bytes(b"own training")
    with pytest.raises(Unavailable, match=r"not the released checkpoint.*--trust"):
        convert(CONVERTED, [source], tmp_path)
    assert not converter
    convert(CONVERTED, [source], tmp_path, trust=True)
    assert find(CONVERTED, tmp_path)


def test_a_conversion_that_fails_leaves_no_lock(
    tmp_path: Path, converter: list[dict[str, Any]]
) -> None:
    source = tmp_path / "own.ckpt"
    source.write_bytes(CHECKPOINT)
    convert(CONVERTED, [source], tmp_path)
    source.write_bytes(b"no pickle")
    with pytest.raises(Unavailable, match="not a checkpoint"):
        convert(CONVERTED, [source], tmp_path, trust=True)
    assert state_of(CONVERTED, tmp_path).condition is Condition.MISSING


def test_what_cannot_be_converted_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="is not converted"):
        convert(TINY, [tmp_path / "x"], tmp_path)
    with pytest.raises(Unavailable, match=r"There is no file .*Ask its authors"):
        convert(CONVERTED, [tmp_path / "x"], tmp_path)
    with pytest.raises(InvalidOption, match="precision must be"):
        convert(CONVERTED, [tmp_path / "x"], tmp_path, precision="int4")


def test_the_real_converter_is_called_as_it_wants_to_be(tmp_path: Path) -> None:
    syncdreamer = weights_catalogue().bundle("syncdreamer")
    source = tmp_path / "own.ckpt"
    torch.save({"state_dict": {"betas": torch.zeros(3)}}, source)
    with pytest.raises(Unavailable, match="not the SyncDreamer checkpoint"):
        convert(syncdreamer, [source], tmp_path, precision="fp16", trust=True)
    assert state_of(syncdreamer, tmp_path).condition is Condition.MISSING
