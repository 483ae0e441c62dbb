"""The FastAPI application, a pure factory: services in, application out. No Ray here."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from serve_app.http import problems
from serve_app.http.dependencies import Services
from serve_app.http.middleware import BodyLimit, RequestId
from serve_app.http.routes import (
    events,
    files,
    health,
    jobs,
    library,
    projects,
    reports,
    uploads,
)

__all__ = ["create_app"]


def create_app(services: Services) -> FastAPI:
    """The whole HTTP contract over `services`."""
    # FastAPI's own /docs loads its scripts from another site; these come with the package.
    app = FastAPIOffline(
        redoc_url=None,
        title="Glimpse3D",
        version=version("glimpse3d"),
        description="One photo to a refined 3D Gaussian splat.",
    )
    app.state.services = services
    problems.install(app)
    for module in (health, uploads, projects, library, reports, jobs, events, files):
        app.include_router(module.router)
    # The last one added is the outermost: a refused body has an id, too.
    app.add_middleware(BodyLimit, max_file_bytes=services.limits.max_upload_bytes)
    app.add_middleware(RequestId)
    return app
