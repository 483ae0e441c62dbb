"""The records port over anything that can call the SQL functions of `supabase/migrations`.

`CallRecords` holds the table of methods and functions. It does not know how a call travels: a
subclass says so in `call`, and in `_watched` how it learns of changes.
"""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from enum import Enum, auto
from functools import cache, cached_property, wraps
from types import NoneType
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from deployments.jobs.commits import LivePreview, StageCommit
from deployments.jobs.edit_rows import NewViewEdit
from deployments.jobs.job_errors import IdempotencyMismatch, ProjectBusy, StaleAttempt, TooBusy
from deployments.jobs.photo_rows import NewPhoto, PlacedPhoto
from deployments.jobs.rows import Bucket, Job, JobError, NewJob, Submitted, Uploaded
from deployments.jobs.store import Changed, Records
from pipeline.errors import (
    Conflict,
    GlimpseError,
    InvalidInput,
    InvalidOption,
    NotFound,
    NotGeneratedYet,
    Unavailable,
)
from serve_app.stores.job_ends import JobEnds
from serve_app.stores.migrations import newest_version

_OWN_STATES: dict[str, type[GlimpseError]] = {
    "GL400": InvalidInput,
    "GL404": NotFound,
    "GL409": Conflict,
    "GL410": StaleAttempt,
    "GL412": InvalidOption,  # the database of another program
    "GL422": IdempotencyMismatch,
    "GL425": NotGeneratedYet,
    "GL503": TooBusy,
}

_AWAY = (Unavailable, "The database does not answer now")
_NOT_MIGRATED = (Unavailable, "The database lacks our migrations")
_REFUSED = (InvalidInput, "The records refuse the values")

#: PostgreSQL's and PostgREST's own codes by prefix, the longer before the shorter.
_THEIR_STATES: dict[str, tuple[type[GlimpseError], str]] = {
    "42883": _NOT_MIGRATED,  # no such function
    "42P01": _NOT_MIGRATED,  # no such table
    "PGRST202": _NOT_MIGRATED,  # no such function
    "PGRST106": (Unavailable, "The project's Data API does not expose the schema public"),
    "PGRST0": _AWAY,  # PostgREST has no database
    "23505": (Conflict, "The records hold another row in its place"),
    "25006": (Unavailable, "The database takes no writes now"),  # a standby, or over its limit
    "22": _REFUSED,  # not a number, out of range, NUL in a text
    "23": _REFUSED,  # a constraint, which the message names
    "08": _AWAY,  # connection lost
    "28": _AWAY,  # wrong password or user
    "3D": _AWAY,  # no such database
    "40": _AWAY,  # deadlock, serialisation
    "53": _AWAY,  # out of disk, memory or connections
    "55": _AWAY,  # locked
    "57": _AWAY,  # shutting down, starting up, cancelled
    "58": _AWAY,  # the server's disk fails
}


def error_for_sqlstate(sqlstate: str, message: str, detail: str | None = None) -> GlimpseError:
    """The error of our tree for what PostgreSQL reports; total over all SQLSTATEs.

    Args:
        sqlstate: five characters; `GL...` are raised by our own functions.
        message: PostgreSQL's primary message.
        detail: PostgreSQL's detail line; the job's id when the project is busy.
    """
    if sqlstate == "GL423":
        return ProjectBusy(message, detail or "")
    if sqlstate in _OWN_STATES:
        return _OWN_STATES[sqlstate](message)
    for prefix, (kind, sentence) in _THEIR_STATES.items():
        if sqlstate.startswith(prefix):
            # What PostgreSQL says names tables, hosts and values.
            return kind(f"{sentence}: {message}", public=f"{sentence}.")
    return GlimpseError(f"The database failed ({sqlstate}): {message}")


T = TypeVar("T")
P = ParamSpec("P")


class Repeat(Enum):
    """Whether a call that perhaps was carried out, for its answer was lost, may be made again."""

    #: It adds or takes something each time.
    NEVER = auto()
    #: It reads, or its arguments (job, fence, stage, project) name what is to be so.
    ALWAYS = auto()
    #: With an idempotency key, by which the second call finds what the first one made.
    WITH_KEY = auto()


#: By function, filled by the table below; a function that is not listed is never repeated.
_REPEATS: dict[str, Repeat] = {
    "ended_jobs_v1": Repeat.ALWAYS,
    "file_store_v1": Repeat.ALWAYS,
    "inspect_v1": Repeat.ALWAYS,
    "name_file_store_v1": Repeat.ALWAYS,
    "schema_version_v1": Repeat.ALWAYS,
    # An upload that the first call gave up, for its key was taken, is gone for the second one;
    # who asks again with the key gets the project.
    "finish_upload_v1": Repeat.ALWAYS,
    "submit_job_v1": Repeat.WITH_KEY,
}


def repeat_of(function: str) -> Repeat:
    """Whether calls of a function in `public` may be made again."""
    return _REPEATS.get(function, Repeat.NEVER)


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    """Reads and writes rows; made when it is first needed, for it takes some milliseconds."""
    return TypeAdapter(kind)


def _read(function: str, kind: Any, answer: Any) -> Any:
    """The answer of a function as `kind`, or Unavailable where it is none.

    Who answers so is a database that was migrated by other files: the job that asks goes on where
    releases agree again.
    """
    try:
        return _reader(kind).validate_python(answer)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        fault = f"{place}: {first['msg']}" if place else first["msg"]
        raise Unavailable(
            f"The database's function {function} answers what this release cannot read, which "
            f"needs schema {newest_version()}: {fault}. `glimpse3d doctor` compares the two."
        ) from error


def _argument(value: Any) -> Any:
    """An argument of a port's method as plain JSON values."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(
        value, StageCommit | LivePreview | JobError | NewPhoto | PlacedPhoto | NewViewEdit
    ):
        # The database judges values; what is no JSON at all is refused by `call`.
        kind: Any = type(value)
        return _reader(kind).dump_python(value, warnings=False)
    if isinstance(value, list | tuple):
        return [_argument(part) for part in value]
    return dict(value) if isinstance(value, Mapping) else value


def _step(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
    function: str,
    repeat: Repeat = Repeat.NEVER,
    **pairs: tuple[str, str],
) -> Callable[Concatenate[CallRecords, P], Coroutine[Any, Any, T]]:
    """A method of the port that is one SQL function, with the parameters and the result of both.

    Args:
        method: the port's: parameter `x` goes into the function's `p_x`, and the function's JSON is
            read as what the method is annotated to return.
        function: in `public`.
        repeat: whether a call may be made again when its answer was lost.
        pairs: parameters that are a pair, or None, and travel as two of these names.
    """
    _REPEATS[function] = repeat
    result = get_type_hints(method)["return"]
    parameters = dict(inspect.signature(method).parameters)
    del parameters["self"]
    defaults = {n: p.default for n, p in parameters.items() if p.default is not p.empty}

    @wraps(method)
    def step(records: CallRecords, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        # Not `Signature.bind`, which takes as long as to read the answer.
        arguments = {**defaults, **dict(zip(parameters, args, strict=False)), **kwargs}
        if arguments.keys() != parameters.keys():
            raise TypeError(f"{method.__name__} takes {', '.join(parameters)}.")
        for name, names in pairs.items():
            arguments |= zip(names, arguments.pop(name) or (None, None), strict=True)
        return records.ask(function, result, **arguments)

    return step


class CallRecords(ABC):
    """`deployments.jobs.store.Records` in terms of named SQL functions."""

    #: How often a waiter looks when nothing announces changes to it.
    poll_s: ClassVar[float] = 0.5

    @abstractmethod
    async def call(self, function: str, **arguments: Any) -> Any:
        """Call `public.{function}` with named arguments; its JSON as Python values.

        Raises errors of our tree and nothing else.
        """

    async def ask(self, function: str, result: Any, /, **arguments: Any) -> Any:
        """Call a function with arguments as a method has them; its answer as `result`."""
        answer = await self.call(
            function, **{f"p_{name}": _argument(value) for name, value in arguments.items()}
        )
        # Functions say more than methods that return nothing do.
        return None if result is NoneType else _read(function, result, answer)

    # --- methods that are one function -----------------------------------------------------------

    begin_upload = _step(Records.begin_upload, "begin_upload_v1")
    begin_photo = _step(Records.begin_photo, "begin_photo_v1", Repeat.ALWAYS)
    find_photo = _step(Records.find_photo, "find_photo_v1", Repeat.ALWAYS)
    # Repeated after a lost answer it would find another revision: who calls looks again.
    arrange_photos = _step(Records.arrange_photos, "arrange_photos_v1")
    due_photos = _step(Records.due_photos, "due_photos_v1", Repeat.ALWAYS)
    take_photo_back = _step(Records.take_photo_back, "take_photo_back_v1", Repeat.ALWAYS)
    end_photo = _step(Records.end_photo, "end_photo_v1", Repeat.ALWAYS)
    find_upload = _step(Records.find_upload, "find_upload_v1", Repeat.ALWAYS)
    get_project = _step(Records.get_project, "get_project_v1", Repeat.ALWAYS)
    restore_version = _step(Records.restore_version, "restore_version_v1", Repeat.ALWAYS)
    put_view_edit = _step(Records.put_view_edit, "put_view_edit_v1", Repeat.ALWAYS)
    take_view_edit = _step(Records.take_view_edit, "take_view_edit_v1", Repeat.ALWAYS)
    project_detail = _step(Records.project_detail, "project_detail_v1", Repeat.ALWAYS)
    list_projects = _step(
        Records.list_projects, "list_projects_v1", Repeat.ALWAYS, after=("after_at", "after_id")
    )
    project_events = _step(
        Records.project_events, "project_events_v1", Repeat.ALWAYS, after=("after_job", "after_seq")
    )
    project_jobs = _step(Records.project_jobs, "project_jobs_v1", Repeat.ALWAYS)
    delete_project = _step(Records.delete_project, "delete_project_v1", Repeat.ALWAYS)
    purge_project = _step(Records.purge_project, "purge_project_v1", Repeat.ALWAYS)
    due_deletions = _step(Records.due_deletions, "due_deletions_v1", Repeat.ALWAYS)
    end_deletion = _step(Records.end_deletion, "end_deletion_v1", Repeat.ALWAYS)
    expire_projects = _step(Records.expire_projects, "expire_projects_v1", Repeat.ALWAYS)
    expire_uploads = _step(Records.expire_uploads, "expire_uploads_v1", Repeat.ALWAYS)

    get_job = _step(Records.get_job, "get_job_v1", Repeat.ALWAYS)
    queue = _step(Records.queue, "queue_v1", Repeat.ALWAYS)
    job_events = _step(Records.job_events, "job_events_v1", Repeat.ALWAYS)
    cancel_job = _step(Records.cancel_job, "cancel_job_v1", Repeat.ALWAYS)
    claim_job = _step(Records.claim_job, "claim_job_v1")
    heartbeat = _step(Records.heartbeat, "heartbeat_v1", Repeat.ALWAYS)
    # Repeated it would be told twice, and it is of use for seconds.
    publish_preview = _step(Records.publish_preview, "publish_preview_v1")
    commit_stage = _step(Records.commit_stage, "commit_stage_v1", Repeat.ALWAYS)
    committed = _step(Records.committed, "committed_v1", Repeat.ALWAYS)
    finish_job = _step(Records.finish_job, "finish_job_v1", Repeat.ALWAYS)
    release_job = _step(Records.release_job, "release_job_v1", Repeat.ALWAYS)

    forget = _step(Records.forget, "forget_v1", Repeat.ALWAYS)
    jobs_to_sweep = _step(Records.jobs_to_sweep, "jobs_to_sweep_v1", Repeat.ALWAYS)
    mark_swept = _step(Records.mark_swept, "mark_swept_v1", Repeat.ALWAYS)
    claim_webhook = _step(Records.claim_webhook, "claim_webhook_v1")
    finish_webhook = _step(Records.finish_webhook, "finish_webhook_v1", Repeat.ALWAYS)

    # --- methods whose parameters or answers differ from those of their function -----------------

    async def ping(self) -> None:
        """Newer migrations than ours are fine: functions are versioned."""
        found = await self.call("schema_version_v1")
        wanted = newest_version()
        if not (isinstance(found, str) and found.isdigit()):
            raise Unavailable(f"The database answers with {found!r} when asked for its migrations.")
        if found < wanted:
            raise Unavailable.openly(
                f"The database is at migration {found}, this release needs {wanted}: migrate it."
            )

    async def finish_upload(
        self,
        project_id: str,
        *,
        idempotency_key: str | None = None,
        fingerprint: str = "",
        client: str = "",
    ) -> Uploaded:
        """A mismatch comes as an answer: an error would undo that the project was given up."""
        answer = await self.call(
            "finish_upload_v1",
            p_project_id=project_id,
            p_idempotency_key=idempotency_key,
            p_fingerprint=fingerprint,
            p_client=client,
        )
        if isinstance(answer, dict) and "mismatch" in answer:
            raise IdempotencyMismatch(answer["mismatch"])
        return cast(Uploaded, _read("finish_upload_v1", Uploaded, answer))

    async def submit_job(self, job: NewJob) -> Submitted:
        """Every field of the job is a parameter."""
        return cast(Submitted, await self.ask("submit_job_v1", Submitted, **vars(job)))

    _named_paths = _step(Records.referenced_paths, "referenced_paths_v1", Repeat.ALWAYS)

    async def referenced_paths(self, project_id: str) -> Mapping[Bucket, frozenset[str]] | None:
        """Every bucket is in the answer."""
        named = await self._named_paths(project_id)
        if named is None:
            return None
        return {bucket: named.get(bucket, frozenset()) for bucket in Bucket}

    # --- waiting ---------------------------------------------------------------------------------

    def watch_job(self, job_id: str) -> AbstractContextManager[Changed]:
        return self._watched("glimpse3d_jobs", job_id)

    def watch_project(self, project_id: str) -> AbstractContextManager[Changed]:
        return self._watched("glimpse3d_projects", project_id)

    @contextmanager
    def _watched(self, channel: str, name: str) -> Iterator[Changed]:
        """Polls; a subclass may listen for `name` on the channel of PostgreSQL."""
        del channel, name

        async def changed(left_s: float) -> None:
            await asyncio.sleep(min(left_s, self.poll_s))

        yield changed

    @property
    def looks_every_s(self) -> float:
        """How often a waiter looks now."""
        return self.poll_s

    async def wait_for_job(self, job_id: str, timeout_s: float) -> Job:
        """Asks, and waits for the end, until the job has ended or the time is up.

        All who wait look at the same moments, so that one statement answers them.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        # What no job has as its id would fail the question of everybody.
        if not (job_id.isascii() and job_id.isprintable()):
            return await self.get_job(job_id)
        with self._watched("glimpse3d_ended", job_id) as ended:
            while deadline > clock():
                if (job := await self._ends.ask(job_id)) is not None:
                    return job
                to_the_next_look_s = self.looks_every_s - clock() % self.looks_every_s
                await ended(max(min(deadline - clock(), to_the_next_look_s), 0.0))
        return await self.get_job(job_id)

    @cached_property
    def _ends(self) -> JobEnds:
        return JobEnds(self._ended_jobs)

    async def _ended_jobs(self, job_ids: Sequence[str]) -> Mapping[str, Job | None]:
        ended = await self.ask("ended_jobs_v1", dict[str, Job | None], job_ids=list(job_ids))
        return cast(Mapping[str, Job | None], ended)
