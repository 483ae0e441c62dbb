"""The FastAPI application, a pure factory: services in, application out. No Ray here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from serve_app.http import openapi, problems
from serve_app.http.dependencies import Services
from serve_app.http.front_door import FrontDoor
from serve_app.http.middleware import RequestId
from serve_app.http.request_limits import RequestLimits
from serve_app.http.routes import (
    edited_views,
    events,
    files,
    health,
    jobs,
    library,
    projects,
    reports,
    uploads,
    versions,
)
from serve_app.http.routes import (
    project_photos as photos,
)


def create_app(
    services: Services,
    *,
    servers: Sequence[Mapping[str, Any]] = (),
    security: Mapping[str, Mapping[str, Any]] | None = None,
) -> FastAPI:
    """The whole HTTP contract over `services`.

    Args:
        servers: of the OpenAPI document, for clients that are made from it; none: the public URL.
        security: security schemes of the OpenAPI document, by name, of what stands before the
            service and lets nobody in without; the service itself asks for nothing.
    """
    if not servers and services.reach.public_url:
        servers = [{"url": services.reach.public_url.rstrip("/")}]
    # FastAPI's own /docs loads its scripts from another site; these come with the package.
    app = FastAPIOffline(
        redoc_url=None,
        title="Glimpse3D",
        version=version("glimpse3d"),
        description="One photo to a refined 3D Gaussian splat.",
        servers=[dict(server) for server in servers],
        root_path_in_servers=not servers,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,  # an answer without a body; a problem document says where to go
    )
    app.state.services = services
    problems.install(app)
    modules = (
        health,
        uploads,
        photos,
        projects,
        library,
        versions,
        edited_views,
        reports,
        jobs,
        events,
        files,
    )
    for module in modules:
        app.include_router(module.router)
    app.include_router(_heads([app.router, *(module.router for module in modules)]))
    # The last one added is the outermost: a refused request has an id, too.
    forms = photos.FORMS | edited_views.FORMS
    app.add_middleware(RequestLimits, services=services, forms=forms)
    app.add_middleware(FrontDoor, reach=services.reach)
    app.add_middleware(RequestId)
    document = app.openapi
    app.openapi = cache(  # type: ignore[method-assign]
        lambda: openapi.complete(document(), security or {})
    )
    return app


#: A GET that begins work cannot be asked for its headers alone.
_NO_HEAD = frozenset({"export"})


def _heads(routers: Iterable[APIRouter]) -> APIRouter:
    """Every other GET asked with HEAD; servers leave the body out by themselves."""
    heads = APIRouter()
    for route in (route for router in routers for route in router.routes):
        if isinstance(route, APIRoute) and route.methods == {"GET"} and route.name not in _NO_HEAD:
            twin = copy(route)
            twin.methods, twin.include_in_schema = {"HEAD"}, False
            heads.routes.append(twin)
    return heads


def _operation_id(route: APIRoute) -> str:
    return route.name
