"""The HTTP ingress as a Serve deployment: opens the store, builds the application, reports health.

It knows Serve's life cycle and nothing of the routes.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from deployments.handles import HandlePort, readiness_of
from deployments.jobs.store import Store
from pipeline.errors import GlimpseError
from serve_app.http.app import create_app
from serve_app.http.dependencies import Services
from serve_app.stores import Stores


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

    async def __serve_build_asgi_app__(self) -> FastAPI:
        store = await self._stack.enter_async_context(self._stores.open())
        app_name = serve.get_replica_context().app_name

        async def readiness() -> Mapping[str, str]:
            states = await _deployment_states(app_name)
            hosts = {name: h for name, h in self._hosts.items() if states.get(name) == "ok"}
            answers = await asyncio.gather(*(readiness_of(host) for host in hosts.values()))
            return {
                "store": await store_state(store),
                **states,
                **dict(zip(hosts, answers, strict=True)),
            }

        app = create_app(self._services(store, self._background, readiness, store.files))
        # What is there now stays: a full collection would look at it again and again, while
        # clients wait.
        gc.collect()
        gc.freeze()
        return app

    async def __del__(self) -> None:
        await self._stack.aclose()


async def store_state(store: Store) -> str:
    """ "ok", or what keeps the store from working, for `/ready`."""
    try:
        await store.records.ping()
        await store.blobs.ping()
    except GlimpseError as error:
        return error.detail
    return "ok"


async def _deployment_states(app_name: str) -> dict[str, str]:
    """Every deployment of the application as Serve's controller sees it."""
    status = await asyncio.to_thread(serve.status)
    application = status.applications.get(app_name)
    if application is None:
        return {"application": "Serve does not know the application."}
    states = {}
    for name, deployment in application.deployments.items():
        healthy = deployment.status.value == "HEALTHY"
        reason = deployment.message or deployment.status.value
        states[name] = "ok" if healthy else reason
    if application.status is not ApplicationStatus.RUNNING:
        states["application"] = application.message or application.status.value
    return states
