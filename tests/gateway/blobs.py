"""Bytes of objects: uploads that arrive as a stream, and files with the versions of objects."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

__all__ = ["Incoming", "Multipart", "file_of"]


def file_of(blobs: Path, bucket: str, name: str, version: str) -> Path:
    """The file with one version of an object; names may end in anything, so they are hashed."""
    key = hashlib.sha256(f"{bucket}/{name}".encode()).hexdigest()
    return blobs / key[:2] / f"{key}-{version}"


class Incoming:
    """A file that grows; `keep` puts it at its place in one step."""

    def __init__(self, blobs: Path) -> None:
        self.version = str(uuid4())
        self.size = 0
        self._blobs = blobs
        self._path = blobs / ".incoming" / self.version
        self._file = self._path.open("wb")
        self._md5 = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes) -> None:
        """Append."""
        self._file.write(data)
        self._md5.update(data)
        self.size += len(data)

    def keep(self, bucket: str, name: str) -> None:
        """The file is complete."""
        self._file.close()
        place = file_of(self._blobs, bucket, name, self.version)
        place.parent.mkdir(exist_ok=True)
        self._path.replace(place)

    def discard(self) -> None:
        """Nobody wants the file; nothing after `keep`."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    @property
    def etag(self) -> str:
        """As a header has it."""
        return f'"{self._md5.hexdigest()}"'


@dataclass
class Multipart:
    """A form with text fields and, last, one file, read in pieces.

    The fields before the file are complete when `read` yields its first piece, as in the Storage
    API, which does not see fields that come later.
    """

    fields: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    #: Names of the parts, as they came.
    parts: list[str] = field(default_factory=list)

    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The bytes of the file.

        Raises:
            ValueError: (also python_multipart's errors) the body is no form.
        """
        _, options = parse_options_header(request.headers["content-type"])
        headers: dict[str, str] = {}
        current = [b"", b""]
        pieces: list[bytes] = []

        def on_header_field(data: bytes, start: int, end: int) -> None:
            current[0] += data[start:end]

        def on_header_value(data: bytes, start: int, end: int) -> None:
            current[1] += data[start:end]

        def on_header_end() -> None:
            headers[current[0].decode().lower()] = current[1].decode()
            current[:] = [b"", b""]

        def on_headers_finished() -> None:
            _, disposition = parse_options_header(headers.get("content-disposition"))
            name = disposition.get(b"name", b"").decode()
            self.parts.append(name)
            if b"filename" in disposition:
                if self.content_type is not None:
                    raise ValueError("more than one file")
                self.content_type = headers.get("content-type", "application/octet-stream")
            else:
                self.fields[name] = ""
            headers.clear()

        def on_part_data(data: bytes, start: int, end: int) -> None:
            if self.content_type is None:
                self.fields[self.parts[-1]] += data[start:end].decode()
            else:
                pieces.append(data[start:end])

        callbacks: Any = {
            "on_header_field": on_header_field,
            "on_header_value": on_header_value,
            "on_header_end": on_header_end,
            "on_headers_finished": on_headers_finished,
            "on_part_data": on_part_data,
        }
        parser = MultipartParser(options.get(b"boundary", b""), callbacks)
        async for chunk in request.stream():
            parser.write(chunk)
            if self.content_type is not None:
                yield b"".join(pieces)
                pieces.clear()
        parser.finalize()
