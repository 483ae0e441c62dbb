"""The application with engines that sleep, on a Ray cluster of this process's own."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from serve_app.stores.server_programs import passable_folder

# First: it sets what Ray reads when it is imported, so that the cluster listens on loopback only.
from serve_app.server import APP_NAME, free_port  # isort: skip

import httpx
import numpy as np
import ray
from PIL import Image
from ray import serve
from ray.serve.config import HTTPOptions

from bench.serving_host import FullSizeHost
from deployments.jobs.store import Store
from pipeline.ports import PortName
from serve_app.builder import Parts, compose
from serve_app.settings import AppArgs
from serve_app.stores import EmbeddedPostgres, StoreSettings

__all__ = ["API", "ONE_HOST", "App", "application", "local_ray", "sleeping_app", "small_photo"]

T = TypeVar("T")

API = "/api/v1"

#: All ports in one deployment, so that one number says how many jobs' engines run at once.
ONE_HOST = {"Models": tuple(PortName)}

_POLL_S = 0.05


@dataclass(frozen=True)
class App:
    """A running application, and the folder its engines look into.

    Attributes:
        http: a client without a limit of time for answers.
    """

    url: str
    http: httpx.Client
    args: AppArgs
    folder: Path

    def naps(self, naps: Mapping[str, float]) -> None:
        """How long each call of the engines takes from now on, seconds."""
        fresh = self.folder / "naps.new"
        fresh.write_text(json.dumps(naps))
        fresh.replace(self.folder / "naps.json")  # an engine never reads half a file

    def slept(self, since: float = 0.0) -> list[dict[str, Any]]:
        """Naps that began since, in the order of their beginning."""
        log = self.folder / "slept.log"
        naps = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        naps.sort(key=lambda nap: nap["began"])
        return [nap for nap in naps if nap["began"] >= since]

    def upload(self, photo: bytes) -> str:
        """The id of a new project."""
        answer = self.http.post(f"{API}/upload", files={"file": ("photo.png", photo)})
        answer.raise_for_status()
        return str(answer.json()["project_id"])

    def start(self, project: str, *, client: str = "bench", **body: object) -> str:
        """The id of a new generation, which is not waited for."""
        headers = {"Prefer": "respond-async", "X-Client": client}
        answer = self.http.post(
            f"{API}/generate/{project}", json={"seed": 1, **body}, headers=headers
        )
        answer.raise_for_status()
        return str(answer.json()["id"])

    def job(self, job_id: str, wait_s: float = 0.0) -> dict[str, Any]:
        """The job; asked again when the process that answers was killed."""
        while True:
            try:
                answer = self.http.get(f"{API}/jobs/{job_id}", params={"wait": wait_s})
                answer.raise_for_status()
                return dict(answer.json())
            except httpx.TransportError:
                time.sleep(_POLL_S)
            except httpx.HTTPStatusError as error:
                if error.response.status_code < 500:
                    raise
                time.sleep(_POLL_S)

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job when it has ended."""
        while (job := self.job(job_id, wait_s=10.0))["state"] in ("queued", "running"):
            pass
        return job

    def until(self, job_id: str, is_there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The job when it has come so far. Raises RuntimeError when it ends before."""
        while not is_there(job := self.job(job_id)):
            if job["state"] not in ("queued", "running"):
                raise RuntimeError(f"the job ended too early: {job}")
            time.sleep(_POLL_S)
        return job

    def on_store(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """What a coroutine function finds in the store."""

        async def opened() -> T:
            # Joins the embedded server that the application started.
            settings = self.args.stores().prepare()
            async with settings.open() as store:
                return await work(store)

        return asyncio.run(opened())


def small_photo() -> bytes:
    """A photo that is decoded and stored in no time: for many uploads."""
    pixels = np.full((96, 96, 3), 255, np.uint8)
    pixels[24:-24, 24:-24] = (200, 80, 40)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@contextmanager
def local_ray() -> Iterator[None]:
    """A Ray cluster of this process's own, as `serve_app.server` starts it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        namespace=APP_NAME,
    )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def sleeping_app(
    host: type[Any] = FullSizeHost,
    *,
    driver: Mapping[str, Any] | None = None,
    options: Mapping[str, dict[str, Any]] | None = None,
    ray_cluster: Callable[[], Any] = local_ray,
    **args: Any,
) -> Iterator[App]:
    """The application over sleeping engines; all it started is stopped on the way out.

    Args:
        driver, options: of `Parts`.
        ray_cluster: a context in which this process is connected to a cluster.
        args: of `AppArgs`.
    """
    with passable_folder("glimpse3d-bench-") as folder:
        engines, assets = folder / "engines", folder / "assets"
        engines.mkdir()
        app_args = AppArgs(asset_dir=assets, model_dir=engines, **args)
        parts = Parts(host=host, driver=dict(driver or {}), options=dict(options or {}))
        try:
            with ray_cluster(), application(app_args, parts) as url, _client(url) as http:
                yield App(url, http, app_args, engines)
        finally:
            # After Ray, or replicas would start it again. Once for this process, and once for a
            # replica that was killed a moment ago and still counts as a user.
            StoreSettings(data_dir=assets.resolve()).stop()
            EmbeddedPostgres(assets.resolve() / "postgres").stop()


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=None, trust_env=False)


@contextmanager
def application(args: AppArgs, parts: Parts) -> Iterator[str]:
    """Deploy; the address. The caller has a Ray cluster, and stops it and the database."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    port = free_port()
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    serve.run(compose(args, parts), name=APP_NAME, route_prefix="/")
    url = f"http://127.0.0.1:{port}"
    httpx.get(f"{url}/ready", timeout=60).raise_for_status()
    yield url
