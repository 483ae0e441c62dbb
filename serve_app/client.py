"""A small HTTP client of the service, for the demo and the tests.

It speaks the documented contract and knows nothing of what is behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from pipeline.errors import GlimpseError, ModelFailed

__all__ = ["Client", "ServiceError"]

Json = Mapping[str, Any]

_POLL_S = 0.25


class ServiceError(GlimpseError):
    """The service answered with a problem document; `detail` is its sentence."""

    code = "service_error"


@dataclass(frozen=True)
class Client:
    """Calls to one service."""

    http: httpx.Client

    @classmethod
    def of(cls, url: str) -> Client:
        """A client of the service at `url`."""
        return cls(httpx.Client(base_url=f"{url}/api/v1/", timeout=600.0))

    def upload(self, photo: Path) -> Json:
        """Create a project from a photo."""
        with photo.open("rb") as file:
            return self._json(self.http.post("upload", files={"file": (photo.name, file)}))

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
