"""HTTP to Supabase that tries again where trying again is safe.

It knows which requests may be repeated (of functions, their table says so) and what a gateway in
front of the services answers; not what PostgREST and Storage say (`errors`), nor who asks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from pipeline.errors import Unavailable
from serve_app.stores.records import Repeat, repeat_of

log = logging.getLogger("ray.serve")

_RPC = "/rest/v1/rpc/"
_STORAGE = "/storage/v1/"

#: Not done, whatever it was: the request was turned away at the door.
_TURNED_AWAY = frozenset({429})
#: Perhaps done. 52x are those of the network in front of hosted projects, 544 is Storage's, 423 too
#: (another request holds the object).
_PERHAPS_DONE = frozenset({408, 423, 500, 502, 503, 504, 520, 521, 522, 523, 524, 544})


def may_repeat(request: httpx.Request) -> bool:
    """Whether a request that perhaps was carried out may be sent again."""
    if request.method in ("GET", "HEAD"):
        return True
    _, is_rpc, function = request.url.path.partition(_RPC)
    if is_rpc:
        repeat = repeat_of(function)
        if repeat is Repeat.WITH_KEY:
            return json.loads(request.content).get("p_idempotency_key") is not None
        return repeat is Repeat.ALWAYS
    _, is_storage, action = request.url.path.partition(_STORAGE)
    return bool(is_storage) and _may_repeat_on_files(request, action)


def _may_repeat_on_files(request: httpx.Request, action: str) -> bool:
    if request.method == "DELETE":
        return True
    # Lists and links read, and a second resumable upload that nobody fills expires.
    harmless = action.startswith(("object/list", "object/sign", "upload/resumable"))
    # An upload that replaces what is there may do so twice; a part of one has its place.
    return request.method == "POST" and (harmless or request.headers.get("x-upsert") == "true")


@dataclass(frozen=True)
class Patience:
    """How long one request may take.

    Attributes:
        tries: how often it is sent at most.
        file_tries: the same where files are written, read, listed or deleted: nobody above tries
            that again, as they do rows, and a project that is restarted is away for ten seconds.
        longest_s: no try begins later.
        pause_s: before the second try on average; it doubles with each.
        longest_pause_s: also of what a server asks for with Retry-After; one that asks for more
            is not asked again.
        connect_s: for a connection.
        rows_s: until an answer of PostgREST goes on.
        files_s: until an answer of Storage goes on.
    """

    tries: int = 4
    file_tries: int = 8
    pause_s: float = 0.25
    longest_pause_s: float = 5.0
    longest_s: float = 90.0
    connect_s: float = 5.0
    rows_s: float = 8.0
    files_s: float = 60.0


class SteadyTransport(httpx.AsyncBaseTransport):
    """Sends requests through another transport, again while that is safe and may help.

    Answers of the gateway in front of Supabase (no service there, key refused, too many requests)
    come out as `Unavailable`; those of PostgREST and Storage as they are.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        patience: Patience | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._patience = patience or Patience()
        self._sleep = sleep

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        patience = self._patience
        _, is_storage, action = request.url.path.partition(_STORAGE)
        answer_s = patience.files_s if is_storage else patience.rows_s
        brief = not is_storage or action.startswith(("bucket", "object/sign"))
        tries = patience.tries if brief else patience.file_tries
        # No limit for a connection of the pool: who waits for one is not waiting for the server.
        request.extensions["timeout"] = httpx.Timeout(
            answer_s, connect=patience.connect_s, pool=None
        ).as_dict()
        repeatable = may_repeat(request)
        give_up_at = time.monotonic() + patience.longest_s
        for tried in range(1, tries + 1):
            is_last = tried == tries or time.monotonic() >= give_up_at
            pause_s = random.uniform(0.5, 1.5) * patience.pause_s * 2 ** (tried - 1)
            try:
                response = await self._inner.handle_async_request(request)
                # Here, for an answer may break off in its middle. The client reads all of it.
                await response.aread()
            except httpx.TransportError as error:
                # Without a connection nothing was sent.
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if is_last or not (unsent or repeatable):
                    raise
                reason = repr(error)
            else:
                status = _true_status(response) if is_storage else response.status_code
                again = status in _TURNED_AWAY or (repeatable and status in _PERHAPS_DONE)
                asked_s = _retry_after(response)
                if is_last or not again or asked_s > patience.longest_pause_s:
                    return _explained(request, response)
                pause_s = max(pause_s, asked_s)
                reason = f"HTTP {status}"
            log.info("%s %s is sent again: %s", request.method, request.url.path, reason)
            await self._sleep(min(pause_s, patience.longest_pause_s))
        raise AssertionError("the last try returns or raises")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def _retry_after(response: httpx.Response) -> float:
    """Seconds, where the server says so; a date counts as not said."""
    try:
        return max(float(response.headers["Retry-After"]), 0.0)
    except (KeyError, ValueError):
        return 0.0


def _body(response: httpx.Response) -> Any:
    """Of an answer in JSON, else None."""
    try:
        return response.json()
    except ValueError:
        return None


def _true_status(response: httpx.Response) -> int:
    """Storage says most of what it says with HTTP 400, and the status it means in the body."""
    body = _body(response) if response.status_code == 400 else None
    status = str(body.get("statusCode")) if isinstance(body, dict) else ""
    return int(status) if status.isdigit() else response.status_code


def _explained(request: httpx.Request, response: httpx.Response) -> httpx.Response:
    """The response, unless it is one of the gateway, which the client library cannot read."""
    status = response.status_code
    is_rows = "/rest/v1/" in request.url.path
    if status < 400:
        if (
            is_rows
            and response.content
            and not response.headers.get("Content-Type", "").startswith("application/json")
        ):
            raise Unavailable("What answers at SUPABASE_URL is no Supabase.")
        return response
    body = _body(response)
    if isinstance(body, dict) and (body.get("code") or "statusCode" in body):
        return response  # of PostgREST or Storage
    message = str(body.get("message") or body) if isinstance(body, dict) else response.reason_phrase
    if status in (401, 403):
        raise Unavailable(
            f"Supabase refuses the key ({message}). Set SUPABASE_SERVICE_ROLE_KEY to the secret "
            "key of this project."
        )
    if status == 429:
        raise Unavailable(f"Supabase has too many requests at the moment ({message}).")
    if status == 402:
        raise Unavailable(f"Supabase has restricted the project: a limit of its plan ({message}).")
    if status == 404 and is_rows:
        raise Unavailable(f"There is no Supabase at SUPABASE_URL ({message}).")
    if status >= 500:
        raise Unavailable(f"Supabase does not answer now (HTTP {status}, {message}).")
    return response
