"""ASGI middleware: what a request may weigh, and how long its body may take to arrive.

Everything is refused by what was declared before a byte is read, else as soon as more has come
than is allowed. It knows which paths take photos and no route beyond that.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
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

#: A body that comes whole within so long was on its way when its headers came, and counts for
#: nothing: else a burst of small requests, all quick, would be refused.
_AT_ONCE_S = 0.25


class RequestLimits:
    """Refuses URLs (414), headers (431) and bodies (413, 408, 503) beyond the limits of `services`.

    Args:
        forms: paths whose bodies are forms with photos, and whether with several.
    """

    def __init__(
        self, app: ASGIApp, services: Services, forms: Mapping[re.Pattern[str], bool]
    ) -> None:
        self._app = app
        self._services = services
        self._limits = services.limits
        self._forms = forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A slash too many is told by the routes, however large the photo is.
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        body = _Body(self._limits, self._photo_bytes(scope.get("method", ""), path))
        try:
            self._check_head(scope)
            body.check_declared(Headers(scope=scope))
        except GlimpseError as error:
            await _refuse(scope, receive, send, error)
            return
        has_begun = False
        with ExitStack() as arriving:

            def hold() -> None:
                client = client_of(Request(scope), self._services.client_header)
                arriving.enter_context(self._services.budgets.arriving.taken(client))

            async def limited_receive() -> Message:
                message = await body.receive(receive, hold)
                if body.has_arrived:
                    arriving.close()
                return message

            async def send_unless_refused(message: Message) -> None:
                nonlocal has_begun
                # What the application says about a body that was cut off is not the reason.
                if body.refused is None:
                    has_begun = True
                    await send(message)

            with suppress(_CutOff):
                await self._app(scope, limited_receive, send_unless_refused)
        # An answer that did not need the body, such as a stream, is only cut off.
        if body.refused is not None and not has_begun:
            await _refuse(scope, receive, send, body.refused)

    def _photo_bytes(self, method: str, path: str) -> int | None:
        """What the photos of a body may weigh; None where it is no form with photos."""
        for form, with_several in self._forms.items():
            if method in ("POST", "PUT") and form.fullmatch(path):
                limits = self._limits
                return limits.max_photos_bytes if with_several else limits.max_upload_bytes
        return None

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
        has_arrived: whole.
        refused: why nothing more of it is read.
    """

    def __init__(self, limits: Limits, photo_bytes: int | None) -> None:
        self.has_arrived = False
        self.refused: GlimpseError | None = None
        self._received = 0
        # Photos have a budget of their own.
        self._is_counted = photo_bytes is None
        if photo_bytes is not None:
            self._max_bytes = photo_bytes + OVERHEAD_BYTES
            several = photo_bytes > limits.max_upload_bytes
            self._too_large = TooLarge(photo_bytes, "sum of the files" if several else "file")
            self._timeout_s = limits.upload_timeout_s
        else:
            self._max_bytes = limits.max_json_bytes
            self._too_large = TooLarge(limits.max_json_bytes, "body")
            self._timeout_s = limits.body_timeout_s
        self._began = asyncio.get_running_loop().time()

    def check_declared(self, headers: Headers) -> None:
        """Raises TooLarge for a length beyond the limit."""
        length = headers.get("content-length", "0")
        if length == "0" and "transfer-encoding" not in headers:
            self._is_counted = False
        if length.isdecimal() and (len(length) > 15 or int(length) > self._max_bytes):
            raise self._too_large

    async def receive(self, receive: Receive, hold: Callable[[], None]) -> Message:
        """The next message; what comes behind the body is waited for without a limit.

        Args:
            hold: called once, when the body does not come at once; raises TooManyAtOnce.
        """
        if self.has_arrived:
            return await receive()
        coming = asyncio.ensure_future(receive())
        try:
            if self._is_counted:
                await self._wait(coming, min(_AT_ONCE_S, self._timeout_s))
                if not coming.done():
                    self._is_counted = False
                    hold()
            await self._wait(coming, self._timeout_s)
            if not coming.done():
                raise BodyTooSlow(f"The body was not there after {self._timeout_s:.0f} s.")
        except GlimpseError as error:
            self.refused = error
            raise _CutOff from None
        finally:
            coming.cancel()
        message = coming.result()
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            self.refused = self._too_large
            raise _CutOff
        self.has_arrived = not message.get("more_body", False)
        return message

    async def _wait(self, coming: asyncio.Future[Message], limit_s: float) -> None:
        """For a message, until so long after the request began."""
        left_s = self._began + limit_s - asyncio.get_running_loop().time()
        await asyncio.wait({coming}, timeout=max(0.0, left_s))


async def _refuse(scope: Scope, receive: Receive, send: Send, error: GlimpseError) -> None:
    answer = error_response(Request(scope), error)
    # The rest of the body will not be read: the connection cannot be used again.
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


class _CutOff(Exception):
    """Stops the application from reading on."""
