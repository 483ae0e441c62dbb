"""A small HTTP client of the service, for the demo and the tests.

It speaks the documented contract and knows nothing of what is behind it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from pipeline.errors import GlimpseError, ModelFailed
from pipeline.flow.photo_list import Direction
from serve_app.proxies import ProxyByUrl

Json = Mapping[str, Any]

_POLL_S = 0.25
_ENDED = ("succeeded", "failed", "cancelled")

#: A stream says something every 15 s; one that is silent for longer is dead.
_STREAM_TIMEOUT = httpx.Timeout(60.0)
#: So often in a row a stream may fail to bring an event before we give up.
_STREAM_TRIES = 10


class ServiceError(GlimpseError):
    """The service answered with a problem document; `detail` is its sentence."""

    code = "service_error"


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: str
    kind: str
    data: Json


@dataclass(frozen=True)
class Client:
    """Calls to one service."""

    http: httpx.Client

    @classmethod
    def of(cls, url: str) -> Client:
        """A client of the service at `url`."""
        # Files may be somewhere else: the service leads there.
        return cls(
            httpx.Client(
                base_url=f"{url}/api/v1/",
                timeout=600.0,
                follow_redirects=True,
                transport=ProxyByUrl(),
            )
        )

    def upload(self, photo: Path) -> Json:
        """Create a project from a photo."""
        with photo.open("rb") as file:
            return self._json(self.http.post("upload", files={"file": (photo.name, file)}))

    def add_photo(self, project_id: str, photo: Path, direction: Direction) -> Json:
        """Add a further photo of the object; the project's photos."""
        said = {name: str(value) for name, value in vars(direction).items() if value is not None}
        with photo.open("rb") as file:
            return self._json(
                self.http.post(
                    f"projects/{project_id}/photos", files={"file": (photo.name, file)}, data=said
                )
            )

    def put_mask(self, project_id: str, position: int, mask: Path) -> Json:
        """Say what of a photo is the object; the project's photos."""
        with mask.open("rb") as file:
            return self._json(
                self.http.put(
                    f"projects/{project_id}/photos/{position}/mask",
                    files={"file": (mask.name, file)},
                )
            )

    def run_job(
        self, kind: str, project_id: str, body: Json, watch: Callable[[Json], None]
    ) -> Json:
        """Run `generate` or `refine` to its end; the job resource.

        Args:
            watch: called with the job resource about four times a second.

        Raises:
            ModelFailed: the job failed; stage and cause are in the text.
        """
        answer = self.http.post(
            f"{kind}/{project_id}", json=dict(body), headers={"Prefer": "respond-async"}
        )
        job = self._json(answer)
        while job["state"] in ("queued", "running"):
            time.sleep(_POLL_S)
            job = self._json(self.http.get(f"jobs/{job['id']}"))
            watch(job)
        if job["state"] != "succeeded":
            error = job["error"] or {"stage": job["stage"], "detail": "it was cancelled"}
            raise ModelFailed(f"{kind} failed in stage {error['stage']}: {error['detail']}")
        return job

    def events(self, job_id: str, last_event_id: str = "") -> Iterator[Event]:
        """What happens to a job, as it happens, until it has ended; each event once.

        A connection that breaks is made again behind the last event that came.

        Raises:
            ServiceError: the service refuses, or cannot be reached for several tries.
        """
        failures = 0
        while True:
            headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
            try:
                with self.http.stream(
                    "GET", f"jobs/{job_id}/events", headers=headers, timeout=_STREAM_TIMEOUT
                ) as answer:
                    if answer.status_code == 204:
                        return
                    if answer.is_error:
                        answer.read()
                        if answer.status_code != 503:
                            self._json(answer)
                        raise httpx.RemoteProtocolError(f"answered {answer.status_code}")
                    for event in _events_of(answer.iter_lines()):
                        failures, last_event_id = 0, event.id or last_event_id
                        yield event
                        if event.kind == "deleted" or event.data.get("state") in _ENDED:
                            return
            except httpx.TransportError as error:
                failures += 1
                if failures >= _STREAM_TRIES:
                    raise ServiceError(
                        f"The events of job {job_id} cannot be read: {error}"
                    ) from None
            # Closed in good order the service wants to be asked again, too.
            time.sleep(min(_POLL_S * 2**failures, 5.0))

    def export(self, project_id: str, name: str) -> Json:
        """Convert the newest model."""
        return self._json(self.http.get(f"export/{project_id}", params={"format": name}))

    def status(self, project_id: str) -> Json:
        """Everything known about the project."""
        return self._json(self.http.get(f"status/{project_id}"))

    def download(self, url: str) -> bytes:
        """A file named by an answer."""
        answer = self.http.get(url)
        if answer.is_error:
            raise ServiceError(f"{url} answered {answer.status_code}.")
        return answer.content

    def _json(self, answer: httpx.Response) -> Json:
        try:
            body: Json = answer.json()
        except ValueError:
            raise ServiceError(
                f"{answer.url} answered {answer.status_code}: {answer.text[:200]}"
            ) from None
        if answer.is_error:
            raise ServiceError(f"{body.get('title', '')}: {body.get('detail', answer.text)}")
        return body


def _events_of(lines: Iterable[str]) -> Iterator[Event]:
    """Events from the lines of a stream; one that was cut off is left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            data: Json = json.loads(fields["data"])
            yield Event(fields.get("id", ""), fields.get("event", "message"), data)
        fields = {}
