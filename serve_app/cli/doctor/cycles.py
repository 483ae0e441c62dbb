"""Write, read and delete again, through the same ports as the service; and the clocks.

Nothing stays: what was begun is taken back, also when something fails in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from uuid import uuid4

import httpx

from deployments.jobs.paths import original_path, processed_path
from deployments.jobs.photo_rows import NewPhoto
from deployments.jobs.rows import Bucket
from deployments.jobs.store import Blobs, Records
from pipeline.errors import GlimpseError, NotFound, Unavailable
from serve_app.cli.doctor.checks import Finding, failed, ok, warning
from serve_app.proxies import proxy_for
from serve_app.stores.opened import FileSource

#: More than one part of a resumable upload.
RESUMABLE_BYTES = 7 * 2**20
_NAME = "Prüfung ☂.png"
#: Longest time of a cycle, and of one with a large file on a slow line.
SHORT_S, LONG_S = 20.0, 120.0
_SAMPLES = 5
_SLOW_MS = 150.0
_SKEW_S = 2.0
_LARGE_SKEW_S = 60.0


def new_id() -> str:
    """Of a project that nobody has."""
    return f"doctor-{uuid4().hex}"


async def check_rows(records: Records) -> Finding:
    """A project that is uploading, so that no job runs on it, comes and goes."""
    project_id = new_id()
    async with removing(partial(_remove_rows, records, project_id), f"The project {project_id}"):
        original, processed = original_path(project_id), processed_path(project_id)
        photo = NewPhoto(project_id, original, processed, "doctor")
        await records.begin_upload(project_id, [photo])
        read = await records.get_project(project_id)
    if read.background_engine != "doctor":
        return failed("a row was read that is not the one written", "Report this as a bug.")
    try:
        await records.delete_project(project_id)
    except NotFound:
        return ok("a project was written, read and deleted")
    return failed(
        f"the project {project_id} was deleted and is still there",
        "Start `glimpse3d serve`: it goes on with deletions.",
    )


async def _remove_rows(records: Records, project_id: str) -> None:
    with contextlib.suppress(NotFound):
        await records.delete_project(project_id)
    await records.purge_project(project_id)
    await records.end_deletion(project_id, 0)


@asynccontextmanager
async def removing(
    remove: Callable[[], Awaitable[object]], what: str, limit_s: float = SHORT_S
) -> AsyncIterator[None]:
    """Remove what the block has written, whatever happens in it.

    Block and removal have a time each: no limit of a step may cut the latter off.

    Args:
        remove: harmless when there is nothing.
        what: for the error's text.
        limit_s: longest time for the block.

    Raises:
        GlimpseError: it could not be removed; the text names it.
    """
    error: BaseException | None = None
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        error = Unavailable(f"It took more than {limit_s:g} s.")
    except BaseException as raised:
        error = raised
    try:
        async with asyncio.timeout(SHORT_S):
            await remove()
    except (GlimpseError, TimeoutError) as left:
        first = f"{error} " if isinstance(error, GlimpseError) else ""
        why = str(left) or "no answer"
        raise GlimpseError(f"{first}{what} could not be deleted: {why}") from left
    if error is not None:
        raise error


@asynccontextmanager
async def removing_files(
    blobs: Blobs, bucket: Bucket, project_id: str, limit_s: float = SHORT_S
) -> AsyncIterator[None]:
    """The same for a project's files in a bucket."""
    remove = partial(blobs.delete_prefix, bucket, project_id)
    async with removing(remove, f"The folder {project_id} in {bucket}", limit_s):
        yield


async def check_files(
    blobs: Blobs, links: FileSource, bucket: Bucket, *, large: bool = False
) -> Finding:
    """A small file, and a large one where asked for: written, listed, read, deleted."""
    project_id = new_id()
    files = {f"{project_id}/{_NAME}": (b"\x89PNG of glimpse3d doctor", "image/png")}
    if large:
        content = (bytes(range(256)) * (RESUMABLE_BYTES // 256), "application/octet-stream")
        files[f"{project_id}/large.bin"] = content
    said = []
    async with removing_files(blobs, bucket, project_id, LONG_S if large else SHORT_S):
        for path, (data, content_type) in files.items():
            await blobs.put(bucket, path, data, content_type)
            if await blobs.get(bucket, path) != data:
                said.append(f"{path} came back with another content")
            link = await links.locate(bucket, path)
            if isinstance(link, str) and await _linked(link) != data:
                said.append(f"the signed link of {path} does not give the file")
        if await blobs.list_prefix(bucket, project_id) != tuple(sorted(files)):
            said.append("the folder is not listed as it was written")
        await blobs.delete(bucket, [*files])
        # Not by reading: a network in front of Storage may remember the file for a while.
        if await blobs.list_prefix(bucket, project_id):
            said.append("files that were deleted are still listed")
    if said:
        return failed(
            "; ".join(said), "Look at the logs of Storage, and report this if they are clean."
        )
    also = f", also {RESUMABLE_BYTES // 2**20} MiB" if large else ""
    return ok(f"written, listed, read and deleted{also}")


async def _linked(url: str) -> bytes | None:
    """The file behind a link, by somebody who has no key."""
    try:
        network = httpx.AsyncHTTPTransport(proxy=proxy_for(url))
        async with httpx.AsyncClient(timeout=20.0, transport=network) as nobody:
            response = await nobody.get(url)
    except httpx.HTTPError:
        return None
    return response.content if response.is_success else None


async def check_latency(found: str, call: Callable[[], Awaitable[object]]) -> Finding:
    """What was found, with how long a call takes: the median."""
    times_ms = []
    for _ in range(_SAMPLES):
        began_s = time.perf_counter()
        await call()
        times_ms.append(1000 * (time.perf_counter() - began_s))
    median_ms = statistics.median(times_ms)
    found = f"{found}, {median_ms:.0f} ms a call"
    if median_ms > _SLOW_MS:
        return warning(
            found,
            f"Above {_SLOW_MS:.0f} ms every step of a job is slow: run the service in the region "
            "of the database.",
        )
    return ok(found)


def check_clock(now: str, before: float, after: float) -> Finding:
    """Compare the server's clock with ours.

    Args:
        now: what the server said.
        before: our clock when it was asked, seconds since 1970.
        after: our clock when the answer had come.
    """
    skew_s = (before + after) / 2 - datetime.fromisoformat(now).timestamp()
    fix = "Set this machine's clock by NTP: `timedatectl set-ntp true`."
    if abs(skew_s) <= _SKEW_S:
        return ok(f"{abs(skew_s):.1f} s apart")
    found = (
        f"this machine's clock is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}: "
        "tokens and links expire at wrong times (leases use the server's clock alone)"
    )
    return failed(found, fix) if abs(skew_s) > _LARGE_SKEW_S else warning(found, fix)
