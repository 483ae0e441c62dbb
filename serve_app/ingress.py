"""The HTTP ingress as a Serve deployment: opens the store, builds the application, reports health.

It knows Serve's life cycle and nothing of the routes.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from deployments.handles import HandlePort, awake_deployments, readiness_of
from deployments.jobs.store import Store
from pipeline.errors import GlimpseError, Unavailable
from serve_app.http.app import create_app
from serve_app.http.dependencies import Services
from serve_app.stores import Stores

log = logging.getLogger("ray.serve")


class Ingress:
    """Serve wraps this class in the builder and asks it for the application.

    `services` travels to the replica and lacks what is opened or looked up there.
    """

    def __init__(
        self,
        stores: Stores,
        background: DeploymentHandle[Any],
        hosts: dict[str, DeploymentHandle[Any]],
        driver: DeploymentHandle[Any],
        dispatcher: DeploymentHandle[Any],
        services: partial[Services],
    ) -> None:
        # Serve deploys what is bound here: the dispatcher's handle is taken for that alone.
        del driver, dispatcher
        self._stores = stores
        self._hosts = hosts
        self._background = HandlePort(background, "background removal")
        self._services = services
        self._stack = AsyncExitStack()
        self._store: Store | None = None
        self._logged: dict[str, str] = {}

    async def __serve_build_asgi_app__(self) -> FastAPI:
        store = await self._stack.enter_async_context(self._stores.open())
        self._store = store
        app = create_app(self._services(store, self._background, self.readiness, store.files))
        # What is there now stays: a full collection would look at it again and again, while
        # clients wait.
        gc.collect()
        gc.freeze()
        return app

    async def readiness(self) -> Mapping[str, str]:
        """By name "ok", or what anyone may read of why not; the whole reason goes to the log."""
        checks = await self._checks()
        reasons = {name: str(lack) for name, lack in checks.items() if lack is not None}
        for name, reason in reasons.items():
            # It is asked every few seconds.
            if self._logged.get(name) != reason:
                log.warning("not ready, %s: %s", name, reason)
        self._logged = reasons
        return {name: "ok" if lack is None else lack.public for name, lack in checks.items()}

    async def reasons(self) -> dict[str, str]:
        """Why the service is not ready, for who runs it: called over a handle, never over HTTP."""
        checks = await self._checks()
        return {name: str(lack) for name, lack in checks.items() if lack is not None}

    async def _checks(self) -> dict[str, GlimpseError | None]:
        """Every part of the service by name, and what it lacks."""
        states = await _deployment_states(serve.get_replica_context().app_name)
        # One that was scaled to zero lacks nothing: a call would start a replica.
        awake = await awake_deployments()
        hosts = {
            name: host
            for name, host in self._hosts.items()
            if states.get(name, self) is None and name in awake
        }
        answers = await asyncio.gather(*(readiness_of(host) for host in hosts.values()))
        assert self._store is not None, "the application is built before it is asked"
        return {
            "store": await store_state(self._store),
            **states,
            **dict(zip(hosts, answers, strict=True)),
        }

    async def __del__(self) -> None:
        await self._stack.aclose()


async def store_state(store: Store) -> GlimpseError | None:
    """What keeps the store from working."""
    try:
        await store.records.ping()
        await store.blobs.ping()
    except GlimpseError as error:
        return error
    return None


async def _deployment_states(app_name: str) -> dict[str, GlimpseError | None]:
    """Every deployment of the application as Serve's controller sees it. Its messages hold the
    traces of what failed; clients read the word for the state."""
    status = await asyncio.to_thread(serve.status)
    application = status.applications.get(app_name)
    if application is None:
        return {"application": Unavailable.openly("Serve does not know the application.")}
    states: dict[str, GlimpseError | None] = {}
    for name, deployment in application.deployments.items():
        state, message = deployment.status.value, deployment.message
        healthy = state == "HEALTHY"
        states[name] = None if healthy else Unavailable(message or state, public=state)
    if application.status is not ApplicationStatus.RUNNING:
        state = application.status.value
        states["application"] = Unavailable(application.message or state, public=state)
    return states
