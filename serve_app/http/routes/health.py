"""Whether the service lives and whether it can take work."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from serve_app.http.dependencies import Services
from serve_app.http.schemas import ReadyAnswer

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Alive: the process answers. It asks nobody else."""
    return {"status": "ok"}


@router.get("/ready", response_model=ReadyAnswer, responses={503: {"model": ReadyAnswer}})
async def ready(request: Request, response: Response) -> ReadyAnswer:
    """200 when store and every deployment can work, else 503; each check says why not."""
    services = Services.of(request)
    checks = dict(await services.readiness())
    is_ready = all(state == "ok" for state in checks.values())
    response.status_code = 200 if is_ready else 503
    return ReadyAnswer(ready=is_ready, checks=checks)
