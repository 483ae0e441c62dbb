"""ASGI middleware: what a request may weigh, and how long its body may take to arrive.

Everything is refused by what was declared before a byte is read, else as soon as more has come
than is allowed. It knows which paths take photos and no route beyond that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import ExitStack, suppress

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.errors import GlimpseError
from serve_app.http.budgets import client_of
from serve_app.http.dependencies import Limits, Services
from serve_app.http.problems import (
    BodyTooSlow,
    HeadersTooLarge,
    TooLarge,
    UrlTooLong,
    error_response,
)

#: Boundaries and headers of a multipart body around the file.
OVERHEAD_BYTES = 16 * 1024


class RequestLimits:
    """Refuses URLs (414), headers (431) and bodies (413, 408, 503) beyond the limits of `services`.

    Args:
        upload_paths: paths whose bodies are forms with a photo.
    """

    def __init__(self, app: ASGIApp, services: Services, upload_paths: Collection[str]) -> None:
        self._app = app
        self._services = services
        self._limits = services.limits
        self._upload_paths = frozenset(upload_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        body = _Body(self._limits, is_upload=path in self._upload_paths)
        try:
            self._check_head(scope)
            body.check_declared(Headers(scope=scope))
        except GlimpseError as error:
            await _refuse(scope, receive, send, error)
            return
        with ExitStack() as arriving:
            if body.is_declared and not body.is_upload:
                client = client_of(Request(scope), self._services.client_header)
                try:
                    arriving.enter_context(self._services.budgets.arriving.taken(client))
                except GlimpseError as error:
                    await _refuse(scope, receive, send, error)
                    return

            async def limited_receive() -> Message:
                message = await body.receive(receive)
                if body.has_arrived:
                    arriving.close()
                return message

            async def send_unless_refused(message: Message) -> None:
                # What the application says about a body that was cut off is not the reason.
                if body.refused is None:
                    await send(message)

            with suppress(_CutOff):
                await self._app(scope, limited_receive, send_unless_refused)
        if body.refused is not None:
            await _refuse(scope, receive, send, body.refused)

    def _check_head(self, scope: Scope) -> None:
        limits = self._limits
        url = len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b""))
        if url > limits.max_url_bytes:
            raise UrlTooLong(f"Path and query are longer than {limits.max_url_bytes} bytes.")
        headers = scope["headers"]
        weight = sum(len(name) + len(value) for name, value in headers)
        if len(headers) > limits.max_headers or weight > limits.max_header_bytes:
            raise HeadersTooLarge(
                f"There are more than {limits.max_headers} headers or "
                f"{limits.max_header_bytes} bytes of them."
            )


class _Body:
    """The body of one request as it arrives.

    Attributes:
        is_declared: the headers say that there is one.
        has_arrived: whole.
        refused: why nothing more of it is read.
    """

    def __init__(self, limits: Limits, *, is_upload: bool) -> None:
        self.is_upload = is_upload
        self.is_declared = self.has_arrived = False
        self.refused: GlimpseError | None = None
        self._received = 0
        if is_upload:
            self._max_bytes = limits.max_upload_bytes + OVERHEAD_BYTES
            self._too_large = TooLarge(limits.max_upload_bytes)
            self._timeout_s = limits.upload_timeout_s
        else:
            self._max_bytes = limits.max_json_bytes
            self._too_large = TooLarge(limits.max_json_bytes, "body")
            self._timeout_s = limits.body_timeout_s
        self._end = asyncio.get_running_loop().time() + self._timeout_s

    def check_declared(self, headers: Headers) -> None:
        """Raises TooLarge for a length beyond the limit."""
        length = headers.get("content-length", "0")
        self.is_declared = length != "0" or "transfer-encoding" in headers
        if length.isdecimal() and (len(length) > 15 or int(length) > self._max_bytes):
            raise self._too_large

    async def receive(self, receive: Receive) -> Message:
        """The next message; what comes behind the body is waited for without a limit."""
        if self.has_arrived:
            return await receive()
        try:
            async with asyncio.timeout_at(self._end):
                message = await receive()
        except TimeoutError:
            self.refused = BodyTooSlow(f"The body was not there after {self._timeout_s:.0f} s.")
            raise _CutOff from None
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            self.refused = self._too_large
            raise _CutOff
        self.has_arrived = not message.get("more_body", False)
        return message


async def _refuse(scope: Scope, receive: Receive, send: Send, error: GlimpseError) -> None:
    answer = error_response(Request(scope), error)
    # The rest of the body will not be read: the connection cannot be used again.
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


class _CutOff(Exception):
    """Stops the application from reading on."""
