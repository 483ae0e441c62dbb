"""The Storage API but for resumable uploads.

Errors come as `{statusCode, code, error, message}`; the HTTP status is 400 for all but a few,
whatever `statusCode` says.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import jwt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .blobs import Incoming, Multipart, file_of
from .keys import SERVICE, Caller
from .project import Connection, Project, of

__all__ = [
    "NewObject",
    "StorageError",
    "bucket_of",
    "check_mime_type",
    "check_permission",
    "complete",
    "from_database",
    "require_token",
    "routes",
    "size_limit",
    "valid_key",
    "wants_upsert",
]

#: The platform's global limit, unless a bucket has a lower one.
GLOBAL_LIMIT = 5 * 1024**3
_MAX_OBJECTS = 1000
_DELETE_BATCH = 500
_PIECE = 256 * 1024
_KEY = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]+")


class StorageError(Exception):
    """The Storage API's answer; `http` is its HTTP status where that is neither 400 nor 500."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        error: str | None = None,
        http: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.http = http or (500 if status == 500 else 400)
        self.message = message
        self.body = {
            "statusCode": str(status),
            "code": code,
            "error": error or code,
            "message": message,
        }


def _no_bucket() -> StorageError:
    return StorageError(404, "NoSuchBucket", "Bucket not found", "Bucket not found")


def _denied(message: str) -> StorageError:
    return StorageError(403, "AccessDenied", message, "Unauthorized")


def _invalid(message: str) -> StorageError:
    """What the validation of a request says."""
    return StorageError(400, "InvalidRequest", message, "Error")


def from_database(error: Exception) -> StorageError:
    """As the Storage API renders errors of the database."""
    code = getattr(error, "sqlstate", None) or "08006"
    message = str(error.args[0]) if error.args else ""
    duplicate = "The resource already exists"
    known = {
        "23505": StorageError(409, "KeyAlreadyExists", duplicate, "Duplicate"),
        "23503": StorageError(404, "InvalidRequest", "The related resource does not exist"),
        "42501": _denied(
            "new row violates row-level security policy"
            if "row-level security" in message
            else message
        ),
        "55P03": StorageError(423, "ResourceLocked", "The resource is locked"),
        "57014": StorageError(
            544, "DatabaseTimeout", "The connection to the database timed out", http=544
        ),
        "22P02": StorageError(400, "InvalidParameter", message),
    }
    default = StorageError(500, "DatabaseError", f"database error, code: {code}")
    return known.get(code, default)


def require_token(request: Request, caller: Caller) -> None:
    """Most paths refuse a request without a valid token."""
    if not caller.has_token:
        raise _invalid("headers must have required property 'authorization'")
    if caller.error is not None:
        message = "signature verification failed"
        if isinstance(caller.error, jwt.ExpiredSignatureError):
            message = '"exp" claim timestamp check failed'
        elif request.headers["authorization"].count(".") != 2:
            message = "Invalid Compact JWS"
        raise _denied(message)


def _endpoint(
    work: Callable[[Request], Awaitable[Response]], *, token: bool = True, query: str = ""
) -> Callable[[Request], Awaitable[Response]]:
    """Errors become answers; `query` names the parameters the path knows."""

    async def answered(request: Request) -> Response:
        _, caller = of(request)
        try:
            if unknown := request.query_params.keys() - set(query.split()):
                raise _invalid(f"this gateway does not know the parameters {sorted(unknown)}")
            if token:
                require_token(request, caller)
            return await work(request)
        except StorageError as known:
            error = known
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as problem:
            error = from_database(problem)
        return JSONResponse(error.body, error.http)

    return answered


async def _fields(request: Request, required: str, optional: str = "") -> dict[str, Any]:
    """The JSON body, with these fields and no others."""
    try:
        body = json.loads(await request.body())
    except ValueError:
        raise _invalid("Body is not valid JSON") from None
    if not isinstance(body, dict):
        raise _invalid("body must be object")
    for name in required.split():
        if name not in body:
            raise _invalid(f"body must have required property '{name}'")
    if unknown := body.keys() - set(f"{required} {optional}".split()):
        raise _invalid(f"this gateway does not know the fields {sorted(unknown)}")
    return body


def _integer(body: Mapping[str, Any], name: str, default: int, minimum: int) -> int:
    try:
        value = int(body.get(name, default))
    except (TypeError, ValueError):
        raise _invalid(f"body/{name} must be integer") from None
    if value < minimum:
        raise _invalid(f"body/{name} must be >= {minimum}")
    return value


def _as_caller(request: Request, operation: str) -> AbstractAsyncContextManager[Connection]:
    project, caller = of(request)
    return project.transaction(request, caller, _settings(operation))


def _settings(operation: str) -> dict[str, str]:
    return {"storage.operation": operation, "storage.allow_delete_query": "true"}


def _javascript(time: datetime) -> str:
    """As JavaScript writes times."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def valid_key(name: str) -> str:
    """An object's name, which has to be of certain ASCII characters."""
    if not _KEY.fullmatch(name):
        raise StorageError(400, "InvalidKey", f"Invalid key: {name}")
    return name


# --- buckets -----------------------------------------------------------------------------------

_BUCKET = (
    "id, name, coalesce(owner::text, '') as owner, public, type::text, created_at, updated_at, "
    "file_size_limit, allowed_mime_types"
)


async def bucket_of(request: Request, bucket: str) -> asyncpg.Record:
    """Whatever the caller may see.

    Raises:
        StorageError: there is none.
    """
    project, _ = of(request)
    async with project.transaction(request) as connection:
        row = await connection.fetchrow("select * from storage.buckets where id = $1", bucket)
    if row is None:
        raise _no_bucket()
    return row


def size_limit(bucket: asyncpg.Record) -> int:
    """The most bytes an object of the bucket may have."""
    return int(min(bucket["file_size_limit"] or GLOBAL_LIMIT, GLOBAL_LIMIT))


def check_mime_type(mime_type: str, bucket: asyncpg.Record) -> None:
    """Parameters count: `image/png; x=y` is not `image/png`."""
    allowed = bucket["allowed_mime_types"]
    kind, slash, rest = mime_type.partition("/")
    exact = f"{kind}/{rest.partition('/')[0]}"
    if allowed and not (slash and {exact, f"{kind}/*"} & set(allowed)):
        message = f"mime type {mime_type} is not supported"
        raise StorageError(415, "InvalidMimeType", message, "invalid_mime_type")


def _plain(row: asyncpg.Record) -> dict[str, Any]:
    """A row as JSON has it."""
    plain: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            plain[name] = _javascript(value)
        elif name in ("metadata", "user_metadata") and value is not None:
            plain[name] = json.loads(value)
        else:
            plain[name] = str(value) if name == "id" and value is not None else value
    return plain


async def _list_buckets(request: Request) -> Response:
    async with _as_caller(request, "storage.bucket.list") as connection:
        rows = await connection.fetch(f"select {_BUCKET} from storage.buckets order by id")
    return JSONResponse([_plain(row) for row in rows])


async def _get_bucket(request: Request) -> Response:
    query = f"select {_BUCKET} from storage.buckets where id = $1"
    async with _as_caller(request, "storage.bucket.get") as connection:
        row = await connection.fetchrow(query, request.path_params["bucket"])
    if row is None:
        raise _no_bucket()
    return JSONResponse(_plain(row))


# --- uploads -----------------------------------------------------------------------------------

_INSERT = """
insert into storage.objects (bucket_id, name, version, owner_id, owner, metadata, user_metadata)
values ($1, $2, $3, $4, case when pg_input_is_valid($4, 'uuid') then $4::uuid end, $5::jsonb,
    $6::jsonb)
"""
_UPSERT = f"""
{_INSERT} on conflict (name, bucket_id) do update set version = excluded.version,
    owner_id = coalesce(excluded.owner_id, objects.owner_id),
    owner = coalesce(excluded.owner, objects.owner), metadata = excluded.metadata,
    user_metadata = coalesce(excluded.user_metadata, objects.user_metadata)
returning id
"""


@dataclass
class NewObject:
    """What a request says of an object; `user_metadata` is JSON."""

    bucket: str
    name: str
    length: int
    mime_type: str | None
    cache_control: str
    user_metadata: str | None = None


class _RolledBack(Exception):
    """Ends a transaction that was a question."""


async def check_permission(
    request: Request, operation: str, new: NewObject, *, upsert: bool
) -> None:
    """Write the row as the caller, and take it back: policies and the unique index decide.

    Without upsert this is the only check for an object of that name: two uploads at a time may
    both pass it.
    """
    _, caller = of(request)
    metadata = json.dumps({"mimetype": new.mime_type, "contentLength": new.length})
    with suppress(_RolledBack):
        async with _as_caller(request, operation) as connection:
            await connection.execute(
                _UPSERT if upsert else _INSERT,
                *(new.bucket, new.name, "1", caller.owner, metadata, new.user_metadata),
            )
            raise _RolledBack


async def complete(request: Request, new: NewObject, incoming: Incoming) -> str:
    """The row as the service, whatever has happened since the check; the object's id."""
    project, caller = of(request)
    now = datetime.now(UTC)
    metadata = {
        "eTag": incoming.etag,
        "size": incoming.size,
        "mimetype": new.mime_type or "application/octet-stream",
        "cacheControl": new.cache_control,
        "lastModified": _javascript(now),
        "contentLength": incoming.size,
        "httpStatusCode": 200,
    }
    async with project.transaction(request) as connection:
        # One upload of an object completes at a time, also when there is no row to lock yet.
        key = (new.bucket, new.name)
        lock = "select pg_advisory_xact_lock(hashtextextended($1, 0))"
        await connection.execute(lock, "/".join(key))
        old = await connection.fetchval(
            "select version from storage.objects where bucket_id = $1 and name = $2", *key
        )
        incoming.keep(*key)
        identifier = await connection.fetchval(
            _UPSERT, *key, incoming.version, caller.owner, json.dumps(metadata), new.user_metadata
        )
    if old is not None:
        file_of(project.blobs, *key, old).unlink(missing_ok=True)
    return str(identifier)


def wants_upsert(request: Request) -> bool:
    """Whether the object may be there; the Storage API takes anything but `true` for no."""
    value = request.headers.get("x-upsert", "false")
    if value not in ("true", "false"):
        raise _invalid(f"this gateway does not know x-upsert: {value}")
    return value == "true"


async def _upload(request: Request) -> Response:
    headers = request.headers
    update = request.method == "PUT"
    upsert = update or wants_upsert(request)
    found = await bucket_of(request, request.path_params["bucket"])
    length = int(headers.get("content-length", 0))
    new = NewObject(found["id"], request.path_params["name"], length, "", "no-cache", "{}")
    stream: AsyncIterator[bytes] = request.stream()
    first = b""
    incoming = Incoming(of(request)[0].blobs)
    try:
        if headers.get("content-type", "").startswith("multipart/form-data"):
            form = Multipart()
            stream = form.read(request)
            first = await anext(stream)
            if unknown := set(form.parts) - {"cacheControl", "metadata", "file"}:
                raise _invalid(f"this gateway does not know the form fields {sorted(unknown)}")
            if age := form.fields.get("cacheControl"):
                new.cache_control = f"max-age={age}"
            new.mime_type = form.content_type
            new.user_metadata = form.fields.get("metadata", "{}")
        else:
            new.cache_control = headers.get("cache-control", "no-cache")
            new.mime_type = headers.get("content-type", "application/octet-stream")
        check_mime_type(str(new.mime_type), found)
        valid_key(new.name)
        operation = "storage.object.upload_update" if update else "storage.object.upload"
        await check_permission(request, operation, new, upsert=upsert)
        incoming.write(first)
        async for piece in stream:
            incoming.write(piece)
            if incoming.size > size_limit(found):
                break
        if incoming.size > size_limit(found):
            message = "The object exceeded the maximum allowed size"
            raise StorageError(413, "EntityTooLarge", message, "Payload too large")
        identifier = await complete(request, new, incoming)
    except StopAsyncIteration:
        raise StorageError(400, "InvalidRequest", "No content provided") from None
    except ValueError as problem:
        raise StorageError(400, "InvalidRequest", str(problem)) from None
    finally:
        incoming.discard()
    return JSONResponse({"Id": identifier, "Key": f"{new.bucket}/{new.name}"})


# --- downloads ---------------------------------------------------------------------------------


async def _find(connection: Connection, bucket: str, name: str) -> asyncpg.Record:
    query = "select * from storage.objects where bucket_id = $1 and name = $2"
    row = await connection.fetchrow(query, bucket, valid_key(name))
    if row is None:
        raise StorageError(404, "NoSuchKey", "Object not found", "not_found")
    return row


async def _find_for_caller(request: Request, operation: str) -> asyncpg.Record:
    """The object, by the caller's rights unless its bucket is public.

    A token that is not valid counts as none, and then a private bucket is not found.
    """
    project, caller = of(request)
    bucket = await bucket_of(request, request.path_params["bucket"])
    if not bucket["public"] and not caller.authenticated:
        raise _no_bucket()
    reader = SERVICE if bucket["public"] else caller
    async with project.transaction(request, reader, _settings(operation)) as connection:
        return await _find(connection, bucket["id"], request.path_params["name"])


def _range(header: str, size: int) -> tuple[int, int]:
    """The first byte and the one after the last."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    invalid = StorageError(416, "InvalidRange", "invalid range provided", "invalid_range", http=416)
    if match is None or size == 0 or not (match[1] or match[2]):
        raise invalid
    if not match[1]:
        start, end = max(size - int(match[2]), 0), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    if start >= end:
        raise invalid
    return start, end


async def _pieces(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < end and (piece := file.read(min(_PIECE, end - start))):
            start += len(piece)
            yield piece


def _object(request: Request, row: asyncpg.Record, expires: float | None = None) -> Response:
    project, _ = of(request)
    metadata = json.loads(row["metadata"])
    path = file_of(project.blobs, row["bucket_id"], row["name"], row["version"])
    mime_type = metadata["mimetype"]
    headers = {
        "Accept-Ranges": "bytes",
        # Pages of others are not shown.
        "Content-Type": "text/plain" if "text/html" in mime_type else mime_type,
        "ETag": metadata["eTag"],
        "X-Robots-Tag": "none",
        "Last-Modified": format_datetime(
            datetime.fromisoformat(metadata["lastModified"]), usegmt=True
        ),
    }
    if expires is None:
        headers["Cache-Control"] = metadata["cacheControl"]
    else:
        headers["Expires"] = format_datetime(datetime.fromtimestamp(expires, UTC), usegmt=True)
    if (filename := request.query_params.get("download")) is not None:
        encoded = quote(filename, safe="")
        named = f" filename={encoded}; filename*=UTF-8''{encoded}" if filename else ""
        headers["Content-Disposition"] = f"attachment;{named}"
    if request.headers.get("if-none-match") == metadata["eTag"]:
        return Response(status_code=304)
    start, end, status = 0, metadata["size"], 200
    if "range" in request.headers:
        start, end = _range(request.headers["range"], metadata["size"])
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{metadata['size']}"
        status = 206
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    if not path.exists():
        message = "The resource was not found"
        raise StorageError(404, "NoSuchKey", message, "Not found")
    return StreamingResponse(_pieces(path, start, end), status, headers)


async def _download(request: Request) -> Response:
    return _object(request, await _find_for_caller(request, "storage.object.get_authenticated"))


async def _download_public(request: Request) -> Response:
    bucket = await bucket_of(request, request.path_params["bucket"])
    if not bucket["public"]:
        raise _no_bucket()
    async with of(request)[0].transaction(request) as connection:
        row = await _find(connection, bucket["id"], request.path_params["name"])
    return _object(request, row)


async def _info(request: Request) -> Response:
    row = _plain(await _find_for_caller(request, "object.get_authenticated_info"))
    metadata = row["metadata"]
    info = {name: row[name] for name in ("id", "name", "version", "bucket_id", "created_at")} | {
        "size": metadata["size"],
        "content_type": metadata["mimetype"],
        "cache_control": metadata["cacheControl"],
        "etag": metadata["eTag"],
        "metadata": row["user_metadata"],
        "last_modified": row["updated_at"],
    }
    return JSONResponse(info)


# --- signed URLs -------------------------------------------------------------------------------


def _signed(project: Project, path: str, lifetime_s: int) -> str:
    token = project.secrets.sign({"url": path, "scope": "download"}, lifetime_s)
    return f"/object/sign/{path}?token={token}"


async def _sign(request: Request) -> Response:
    project, _ = of(request)
    body = await _fields(request, "expiresIn", "download")
    lifetime_s = _integer(body, "expiresIn", 0, 1)
    bucket, name = request.path_params["bucket"], request.path_params["name"]
    async with _as_caller(request, "storage.object.sign") as connection:
        await _find(connection, bucket, name)
    return JSONResponse({"signedURL": _signed(project, f"{bucket}/{name}", lifetime_s)})


async def _sign_many(request: Request) -> Response:
    project, _ = of(request)
    body = await _fields(request, "expiresIn paths", "download")
    lifetime_s = _integer(body, "expiresIn", 0, 1)
    bucket, paths = request.path_params["bucket"], body["paths"]
    _check_strings("paths", paths)
    if len(paths) > _MAX_OBJECTS:
        raise _invalid(f"body/paths must NOT have more than {_MAX_OBJECTS} items")
    async with _as_caller(request, "storage.object.sign_many") as connection:
        rows = await connection.fetch(
            "select name from storage.objects where bucket_id = $1 and name = any ($2::text[])",
            bucket,
            paths,
        )
    names = {row["name"] for row in rows}
    missing = "Either the object does not exist or you do not have access to it"
    items: list[dict[str, str | None]] = []
    for path in paths:
        if path in names:
            url = _signed(project, f"{bucket}/{path}", lifetime_s)
            items.append({"error": None, "path": path, "signedURL": url})
        else:
            items.append({"error": missing, "path": path, "signedURL": None})
    return JSONResponse(items)


def _check_strings(name: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _invalid(f"body/{name} must be array")
    if not value:
        raise _invalid(f"body/{name} must NOT have fewer than 1 items")


async def _download_signed(request: Request) -> Response:
    project, _ = of(request)
    bucket, name = request.path_params["bucket"], request.path_params["name"]
    if "token" not in request.query_params:
        raise _invalid("querystring must have required property 'token'")
    try:
        claims = project.secrets.verify(request.query_params["token"])
    except jwt.ExpiredSignatureError:
        raise StorageError(400, "InvalidJWT", '"exp" claim timestamp check failed') from None
    except jwt.InvalidTokenError:
        raise StorageError(400, "InvalidJWT", "signature verification failed") from None
    if claims.get("scope") != "download":
        raise StorageError(400, "InvalidSignature", "Token is not scoped for download")
    if claims.get("url") != f"{bucket}/{name}":
        raise StorageError(400, "InvalidSignature", "Invalid signature")
    async with project.transaction(request) as connection:
        row = await _find(connection, bucket, name)
    return _object(request, row, claims["exp"])


# --- removing and listing ----------------------------------------------------------------------


async def _remove(request: Request) -> Response:
    project, _ = of(request)
    names = (await _fields(request, "prefixes"))["prefixes"]
    _check_strings("prefixes", names)
    removed = []
    # Each batch is a transaction: an error in a later one does not bring the earlier ones back.
    for start in range(0, len(names), _DELETE_BATCH):
        async with _as_caller(request, "storage.object.delete_many") as connection:
            rows = await connection.fetch(
                "delete from storage.objects where bucket_id = $1 and name = any ($2::text[]) "
                "returning bucket_id, name, version, id, owner_id, created_at, updated_at, "
                "last_accessed_at, metadata, user_metadata",
                request.path_params["bucket"],
                names[start : start + _DELETE_BATCH],
            )
        for row in rows:
            path = file_of(project.blobs, row["bucket_id"], row["name"], row["version"])
            path.unlink(missing_ok=True)
            removed.append(_plain(row))
    return JSONResponse(removed)


async def _names(request: Request, operation: str, prefix: str) -> list[dict[str, Any]]:
    """What the caller sees below a prefix, in the order of the bytes of the names."""
    async with _as_caller(request, operation) as connection:
        rows = await connection.fetch(
            "select id, name, metadata, updated_at, created_at, last_accessed_at "
            "from storage.objects where bucket_id = $1 and starts_with(name, $2) "
            'order by name collate "C"',
            request.path_params["bucket"],
            prefix,
        )
    return [_plain(row) for row in rows]


def _folded(rows: list[dict[str, Any]], prefix: str, empty: dict[str, Any]) -> list[dict[str, Any]]:
    """Names with a slash behind the prefix become one folder, `prefix/folder/`, with id None."""
    folded: dict[str, dict[str, Any]] = {}
    for row in rows:
        folder, slash, _ = row["name"][len(prefix) :].partition("/")
        name = f"{prefix}{folder}/" if slash else row["name"]
        folded.setdefault(name, empty | {"name": name, "id": None} if slash else row)
    return list(folded.values())


async def _list_v2(request: Request) -> Response:
    body = await _fields(request, "", "prefix limit cursor with_delimiter sortBy")
    if body.get("sortBy", {"column": "name"}) not in (
        {"column": "name"},
        {"column": "name", "order": "asc"},
    ):
        raise _invalid("this gateway sorts by name, ascending, only")
    limit = min(_integer(body, "limit", _MAX_OBJECTS, 1), _MAX_OBJECTS)
    prefix = body.get("prefix", "")
    after = ""
    if cursor := body.get("cursor"):
        match = re.match("l:([^\n]*)", base64.b64decode(cursor).decode())
        if match is None:
            raise StorageError(400, "InvalidParameter", "Invalid Parameter continuation token")
        after = match[1]
    rows = await _names(request, "storage.object.list_v2", prefix)
    if body.get("with_delimiter"):
        level = prefix.count("/")
        rows = [row | {"key": row["name"].split("/")[level]} for row in _folded(rows, prefix, {})]
    rows = [row for row in rows if row["name"] > after]
    page = rows[:limit]
    answer: dict[str, Any] = {
        "hasNext": len(rows) > limit,
        "folders": [row for row in page if row["id"] is None],
        "objects": [row for row in page if row["id"] is not None],
    }
    if len(rows) > limit:
        answer["nextCursor"] = base64.b64encode(f"l:{page[-1]['name']}".encode()).decode()
        answer["nextCursorKey"] = page[-1]["name"]
    return JSONResponse(answer)


async def _list(request: Request) -> Response:
    body = await _fields(request, "prefix", "limit offset sortBy search")
    if body.get("sortBy", {}).get("column", "name") != "name":
        raise _invalid("this gateway sorts by name only")
    limit, offset = _integer(body, "limit", 100, 1), _integer(body, "offset", 0, 0)
    folder = body["prefix"] and body["prefix"].rstrip("/") + "/"
    prefix = folder + body.get("search", "")
    empty = dict.fromkeys(("updated_at", "created_at", "last_accessed_at", "metadata"))
    rows = _folded(await _names(request, "storage.object.list", prefix), folder, empty)
    if body.get("sortBy", {}).get("order") == "desc":
        rows.reverse()
    # Unlike list-v2: names below the folder, folders without a slash.
    page = [
        row | {"name": row["name"][len(folder) :].rstrip("/")}
        for row in rows[offset : offset + limit]
    ]
    return JSONResponse(page)


async def _status(_: Request) -> Response:
    return Response()


_READ = ["GET"]
_OBJECT = "{bucket}/{name:path}"
routes = [
    Route("/storage/v1/status", _status, methods=_READ),
    Route("/storage/v1/bucket", _endpoint(_list_buckets), methods=_READ),
    Route("/storage/v1/bucket/{bucket}", _endpoint(_get_bucket), methods=_READ),
    Route("/storage/v1/object/list-v2/{bucket}", _endpoint(_list_v2), methods=["POST"]),
    Route("/storage/v1/object/list/{bucket}", _endpoint(_list), methods=["POST"]),
    Route("/storage/v1/object/sign/{bucket}", _endpoint(_sign_many), methods=["POST"]),
    Route(f"/storage/v1/object/sign/{_OBJECT}", _endpoint(_sign), methods=["POST"]),
    Route(
        f"/storage/v1/object/sign/{_OBJECT}",
        _endpoint(_download_signed, token=False, query="token download"),
        methods=_READ,
    ),
    Route(
        f"/storage/v1/object/public/{_OBJECT}",
        _endpoint(_download_public, token=False, query="download"),
        methods=_READ,
    ),
    Route(f"/storage/v1/object/info/{_OBJECT}", _endpoint(_info, token=False), methods=_READ),
    Route(
        f"/storage/v1/object/authenticated/{_OBJECT}",
        _endpoint(_download, query="download"),
        methods=_READ,
    ),
    Route("/storage/v1/object/{bucket}", _endpoint(_remove), methods=["DELETE"]),
    Route(f"/storage/v1/object/{_OBJECT}", _endpoint(_upload), methods=["POST", "PUT"]),
    Route(
        f"/storage/v1/object/{_OBJECT}",
        _endpoint(_download, token=False, query="download"),
        methods=_READ,
    ),
]
