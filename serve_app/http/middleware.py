"""ASGI middleware: an id for every request, and a limit on what a body may weigh.

Plain ASGI, so that uploads and downloads stream through; it knows no route.
"""

from __future__ import annotations

import re
import uuid
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.http.problems import TooLarge, error_response

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Gives every request an id, the caller's `X-Request-ID` where it is harmless."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            # Serve's proxy gives every request an id and repeats it by itself.
            if message["type"] == "http.response.start" and request_id != given:
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class BodyLimit:
    """Refuses a body that is too large with 413: by its declared length at once, else as soon as
    more has arrived than is allowed. Nothing is read beyond the limit."""

    #: Boundaries and headers of a multipart body around the file.
    OVERHEAD_BYTES = 16 * 1024

    def __init__(self, app: ASGIApp, max_file_bytes: int) -> None:
        self._app = app
        self._limit = max_file_bytes + self.OVERHEAD_BYTES
        self._error = TooLarge(max_file_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and (len(declared) > 15 or int(declared) > self._limit):
            await self._refuse(scope, receive, send)
            return
        received = 0
        refused = False

        async def limited_receive() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                refused = True
                raise _CutOff
            return message

        async def send_unless_refused(message: Message) -> None:
            # What the application says about a body that was cut off is not the reason.
            if not refused:
                await send(message)

        with suppress(_CutOff):
            await self._app(scope, limited_receive, send_unless_refused)
        if refused:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = error_response(Request(scope), self._error)
        # The rest of the body will not be read: the connection cannot be used again.
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)


class _CutOff(Exception):
    """Stops the application from reading on."""
