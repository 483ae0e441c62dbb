"""A file as an answer: whole, in parts, or not at all where the client has it already.

Starlette sends the bytes. What it says in plain text is said as RFC 9110 asks: a `Range` that
cannot be read does not count, and one beyond the file is a problem document. It knows no store.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from fastapi import Request
from fastapi.responses import FileResponse
from starlette.datastructures import Headers
from starlette.staticfiles import NotModifiedResponse
from starlette.types import Message, Receive, Scope, Send

from pipeline.errors import NotFound
from serve_app.http.problems import RangeNotSatisfiable, error_response


class StoredFile(FileResponse):
    """Of a file whose bytes never change while its name is the same."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            self.stat_result = await asyncio.to_thread(os.stat, self.path)
        except FileNotFoundError:  # deleted since it was located
            gone = error_response(request, NotFound("No such file."))
            await gone(scope, receive, send)
            return
        self.set_stat_headers(self.stat_result)
        if is_unchanged(request.headers, self.headers):
            await NotModifiedResponse(self.headers)(scope, receive, send)
            return
        refused: Message = {}

        async def send_unless_refused(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (400, 416):
                refused.update(message)
            if not refused:
                await send(message)

        await super().__call__(scope, receive, send_unless_refused)
        if not refused:
            return
        if refused["status"] == 400:
            asked = [pair for pair in scope["headers"] if pair[0] != b"range"]
            await super().__call__({**scope, "headers": asked}, receive, send)
            return
        size = self.stat_result.st_size
        answer = error_response(request, RangeNotSatisfiable(f"The file has {size} bytes."))
        answer.headers["Content-Range"] = f"bytes */{size}"
        await answer(scope, receive, send)


def is_unchanged(asked: Mapping[str, str], file: Headers | Mapping[str, str]) -> bool:
    """Whether a client has the file already: by `If-None-Match`, without it by `If-Modified-Since`.

    Args:
        asked: headers of the request.
        file: headers of the answer, with `etag` and `last-modified`.
    """
    tags = asked.get("if-none-match")
    if tags is not None:
        known = [tag.strip().removeprefix("W/") for tag in tags.split(",")]
        return "*" in known or file["etag"] in known
    since, changed = _moment(asked.get("if-modified-since")), _moment(file["last-modified"])
    return since is not None and changed is not None and changed <= since


def _moment(date: str | None) -> datetime | None:
    """None where it is no date of HTTP, which then does not count."""
    try:
        moment = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
