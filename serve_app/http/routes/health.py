"""Whether the service lives and whether it can take work."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from pipeline.errors import GlimpseError
from serve_app.http.dependencies import AppServices, ClientUrls
from serve_app.http.openapi import problems
from serve_app.http.schemas.service_answers import HealthAnswer, ReadyAnswer

router = APIRouter(tags=["health"])


@router.get("/", include_in_schema=False)
async def root(urls: ClientUrls) -> RedirectResponse:
    """Somebody looks by with a browser."""
    return RedirectResponse(urls.of("/docs"))


@router.get("/health", response_model=HealthAnswer)
async def health() -> HealthAnswer:
    """Alive: the process answers. It asks nobody else."""
    return HealthAnswer()


@router.get(
    "/ready",
    response_model=ReadyAnswer,
    responses={
        503: {"model": ReadyAnswer, "description": "It cannot; the checks say why."},
        **problems(GlimpseError),
    },
)
async def ready(services: AppServices, response: Response) -> ReadyAnswer:
    """200 when store and every deployment can work, else 503; each check says why not."""
    checks = dict(await services.readiness())
    is_ready = all(state == "ok" for state in checks.values())
    response.status_code = 200 if is_ready else 503
    return ReadyAnswer(ready=is_ready, checks=checks)
