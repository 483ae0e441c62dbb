"""PostgREST: function calls, and tables as far as tests of policies need them."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import jwt
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .keys import Caller
from .project import Connection, Project, of

__all__ = ["routes"]

#: The platform's default; longer results are cut without a word.
_MAX_ROWS = 1000
_TIMEOUTS = {"anon": "3s"}
_TIMEOUT = "8s"

#: The first match wins; anything else from the database is 400.
_STATUSES = (
    ("08|53(?!400)|57P01", 503),
    ("09|25(?!006)|2D|38|39|3B|40|53|54|55|57|58|F0|HV|P0(?!001)|XX|21000|42P17", 500),
    ("0L|0P|28", 403),
    ("23503|23505", 409),
    ("25006", 405),
    ("42883|42P01", 404),
)


class RestError(Exception):
    """PostgREST's own answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, "details": details, "hint": hint}


def _from_database(error: asyncpg.PostgresError, caller: Caller) -> RestError:
    code = str(error.sqlstate)
    message = str(error.args[0])
    if code == "42501":
        status = 401 if caller.role == "anon" else 403
    elif code == "22023" and re.fullmatch('role ".*" does not exist', message):
        status = 401
    elif custom := re.fullmatch(r"PT(\d{3})", code):
        status = int(custom[1])
    else:
        status = next((s for pattern, s in _STATUSES if re.match(f"(?:{pattern})", code)), 400)
    fields = error.as_dict()
    return RestError(status, code, message, fields.get("detail"), fields.get("hint"))


def _from_token(error: jwt.InvalidTokenError) -> RestError:
    if isinstance(error, jwt.ExpiredSignatureError):
        return RestError(401, "PGRST303", "JWT expired")
    if isinstance(error, jwt.InvalidSignatureError):
        return RestError(401, "PGRST301", "No suitable key or wrong key type")
    return RestError(401, "PGRST301", "JWT couldn't be decoded", str(error))


def _endpoint(
    work: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answered(request: Request) -> Response:
        _, caller = of(request)
        try:
            if caller.error is not None:
                raise _from_token(caller.error)
            _check_headers(request)
            return await work(request)
        except RestError as known:
            error = known
        except asyncpg.PostgresError as problem:
            error = _from_database(problem, caller)
        except (TimeoutError, asyncpg.InterfaceError, OSError) as problem:
            message = "Database client error. Retrying the connection."
            error = RestError(503, "PGRST001", message, str(problem))
        headers = {"Proxy-Status": f"PostgREST; error={error.body['code']}"}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return _json(json.dumps(error.body), error.status, headers)

    return answered


def _json(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json; charset=utf-8")


def _check_headers(request: Request) -> None:
    for name in ("accept-profile", "content-profile"):
        if request.headers.get(name, "public") != "public":
            raise RestError(406, "PGRST106", f"Invalid schema: {request.headers[name]}")
    if request.headers.get("accept", "*/*") not in ("*/*", "application/json"):
        message = f"None of these media types are available: {request.headers['accept']}"
        raise RestError(406, "PGRST107", message)
    if request.method in ("POST", "PATCH"):
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind != "application/json":
            raise RestError(415, "PGRST102", f"Content-Type not acceptable: {kind}")
    for name in ("range", "range-unit"):
        if name in request.headers:
            raise RestError(400, "PGRST103", f"this gateway does not know the header {name}")


def _prefers_representation(request: Request, *known: str) -> bool:
    chosen = [value.strip() for value in request.headers.get("prefer", "").split(",")]
    unknown = [value for value in chosen if value and value not in known]
    if unknown:
        message = "Invalid preferences given with handling=strict"
        raise RestError(400, "PGRST122", message, f"Invalid preferences: {', '.join(unknown)}")
    return "return=representation" in chosen


async def _body(request: Request) -> Any:
    content = await request.body()
    try:
        return json.loads(content) if content else {}
    except ValueError:
        raise RestError(400, "PGRST102", "Empty or invalid json") from None


def _name(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _literal(value: str) -> str:
    """As PostgREST does: an untyped literal, which the database reads as the column's type."""
    return "'" + value.replace("'", "''") + "'"


def _transaction(project: Project, request: Request, caller: Caller, readonly: bool) -> Any:
    timeout = _TIMEOUTS.get(caller.role, _TIMEOUT)
    settings = {"search_path": "public", "statement_timeout": timeout}
    return project.transaction(request, caller, settings, readonly)


# --- functions ---------------------------------------------------------------------------------

_FUNCTIONS = """
select p.oid::regproc::text, p.provolatile, p.proretset, p.pronargdefaults,
       p.prorettype = 'void'::regtype as is_void,
       coalesce((select array_agg(coalesce(p.proargnames[a.n], '') order by a.n)
          from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) with ordinality as a (t, n)
         where coalesce(p.proargmodes[a.n], 'i') in ('i', 'b')), '{}') as names,
       coalesce((select array_agg(format_type(a.t, null) order by a.n)
          from unnest(p.proargtypes::oid[]) with ordinality as a (t, n)), '{}') as types
  from pg_proc p
 where p.pronamespace = 'public'::regnamespace and p.proname = $1
   and p.prokind = 'f' and p.provariadic = 0 and p.prorettype <> 'trigger'::regtype
"""


async def _find_function(project: Project, name: str, given: set[str]) -> asyncpg.Record:
    async with project.pool.acquire() as connection:
        found = await connection.fetch(_FUNCTIONS, name)
    fitting = [
        row
        for row in found
        if given <= set(row["names"])
        and set(row["names"][: len(row["names"]) - row["pronargdefaults"]]) <= given
    ]
    if len(fitting) == 1:
        return fitting[0]
    arguments = f"({', '.join(sorted(given))})" if given else " without parameters"
    if fitting:
        message = f"Could not choose the best candidate function for public.{name}{arguments}"
        raise RestError(300, "PGRST203", message)
    raise RestError(
        404,
        "PGRST202",
        f"Could not find the function public.{name}{arguments} in the schema cache",
        f"Searched for the function public.{name} with these parameters, but no matches were found "
        "in the schema cache.",
    )


@_endpoint
async def _call(request: Request) -> Response:
    project, caller = of(request)
    _query(request, set())
    _prefers_representation(request)
    body = await _body(request)
    if not isinstance(body, dict):
        raise RestError(400, "PGRST102", "the body is not an object of named arguments")
    name = request.path_params["function"]
    function = await _find_function(project, name, set(body))
    types = dict(zip(function["names"], function["types"], strict=True))
    columns = ", ".join(f"{_name(key)} {types[key]}" for key in body)
    source = f"json_to_record($1::json) as given ({columns}), lateral " if body else ""
    passed = ", ".join(f"{_name(key)} := given.{_name(key)}" for key in body)
    call = f"{source}public.{_name(name)}({passed}) as _r"
    if function["proretset"]:
        rows = f"select _r from {call} limit {_MAX_ROWS}"
        query = f"select coalesce(json_agg(_r), '[]')::text from ({rows}) as rows"
    else:
        query = f"select to_json(_r)::text from {call}"
    if function["is_void"]:
        query = f"select null from {call}"
    # Only volatile functions may write.
    readonly = function["provolatile"] != b"v"
    async with _transaction(project, request, caller, readonly) as connection:
        result = await connection.fetchval(query, *([json.dumps(body)] if body else []))
    if function["is_void"]:
        return Response(status_code=204)
    return _json("null" if result is None else result)


# --- tables ------------------------------------------------------------------------------------

_NOT_NULL = "not.is.null"
_FILTER = re.compile(rf"eq\.|{re.escape(_NOT_NULL)}$")


def _query(request: Request, known: set[str], *, filters: bool = False) -> dict[str, str]:
    """The query parameters; with `filters` all others have to be filters that `_FILTER` knows."""
    given = request.query_params.multi_items()
    for key, value in given:
        unknown = key not in known and not (filters and _FILTER.match(value))
        if unknown or sum(other == key for other, _ in given) > 1:
            raise RestError(400, "PGRST100", f'this gateway does not know "{key}={value}"')
    return {key: value for key, value in given if key in known}


def _columns(text: str) -> str:
    return ", ".join("*" if c == "*" else _name(c.strip('"')) for c in text.split(","))


def _where(request: Request, known: set[str]) -> str:
    filters = [
        f"{_name(key)} is not null"
        if value == _NOT_NULL
        else f"{_name(key)} = {_literal(value.removeprefix('eq.'))}"
        for key, value in request.query_params.multi_items()
        if key not in known
    ]
    return f" where {' and '.join(filters)}" if filters else ""


def _order(text: str) -> str:
    match = re.fullmatch(r'"?(\w+)"?(\.asc|\.desc)?(\.nullsfirst|\.nullslast)?', text)
    if match is None:
        raise RestError(400, "PGRST100", f'this gateway does not know the order "{text}"')
    nulls = {None: "", ".nullsfirst": " nulls first", ".nullslast": " nulls last"}
    return f"{_name(match[1])} {(match[2] or '.asc')[1:]}{nulls[match[3]]}"


async def _relation(connection: Connection, request: Request) -> str:
    name = request.path_params["relation"]
    found = await connection.fetchval(
        "select true from pg_class where relnamespace = 'public'::regnamespace "
        "and relname = $1 and relkind = any ('{r,p,v,m,f}')",
        name,
    )
    if not found:
        message = f"Could not find the table 'public.{name}' in the schema cache"
        raise RestError(404, "PGRST205", message)
    return f"public.{_name(name)}"


async def _insert(connection: Connection, relation: str, rows: Any, columns: str | None) -> str:
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise RestError(400, "PGRST102", "Empty or invalid json")
    keys = set(rows[0]) if columns is None else {c.strip('"') for c in columns.split(",")}
    if any(set(row) != keys for row in rows):
        raise RestError(400, "PGRST102", "All object keys must match")
    names = await _known_columns(connection, relation, keys)
    return (
        f"insert into {relation} ({names}) select {names} "
        f"from json_populate_recordset(null::{relation}, {_literal(json.dumps(rows))})"
    )


async def _known_columns(connection: Connection, relation: str, keys: set[str]) -> str:
    known = await connection.fetchval(
        "select array_agg(attname::text) from pg_attribute "
        "where attrelid = $1::regclass and attnum > 0 and not attisdropped",
        relation,
    )
    for key in keys - set(known):
        message = f"Could not find the '{key}' column of '{relation}' in the schema cache"
        raise RestError(400, "PGRST204", message)
    return ", ".join(map(_name, sorted(keys)))


@_endpoint
async def _table(request: Request) -> Response:
    project, caller = of(request)
    reading = request.method == "GET"
    known = {"select", "order", "limit"} if reading else {"select"}
    known |= {"columns"} if request.method == "POST" else set()
    options = _query(request, known, filters=request.method != "POST")
    returns = ("return=representation", "return=minimal")
    wants = _prefers_representation(request, *(() if reading else returns))
    body = await _body(request) if request.method in ("POST", "PATCH") else None
    where = _where(request, known)
    if request.method in ("PATCH", "DELETE") and not where:
        verb = "UPDATE" if request.method == "PATCH" else "DELETE"
        raise RestError(400, "21000", f"{verb} requires a WHERE clause")
    columns = _columns(options.get("select", "*"))
    async with _transaction(project, request, caller, readonly=reading) as connection:
        relation = await _relation(connection, request)
        if reading:
            limit = options.get("limit", str(_MAX_ROWS))
            if not limit.isdecimal():
                raise RestError(400, "PGRST100", f'this gateway does not know "limit={limit}"')
            order = [_order(part) for part in options.get("order", "").split(",") if part]
            sort = f" order by {', '.join(order)}" if order else ""
            work = f"select {columns} from {relation}{where}{sort}"
            work += f" limit {min(int(limit), _MAX_ROWS)}"
        elif request.method == "POST":
            work = await _insert(connection, relation, body, options.get("columns"))
        elif request.method == "PATCH":
            if not isinstance(body, dict) or not body:
                raise RestError(400, "PGRST102", "Empty or invalid json")
            names = await _known_columns(connection, relation, set(body))
            row = f"json_populate_record(null::{relation}, {_literal(json.dumps(body))})"
            work = f"update {relation} set ({names}) = (select {names} from {row}){where}"
        else:
            work = f"delete from {relation}{where}"
        if reading or wants:
            if reading:
                query = f"select coalesce(json_agg(_r), '[]')::text from ({work}) as _r"
            else:
                query = f"with _r as ({work} returning {columns}) "
                query += "select coalesce(json_agg(_r), '[]')::text from _r"
            result = await connection.fetchval(query)
        else:
            await connection.execute(work)
            result = None
    if request.method == "POST":
        return Response(status_code=201) if result is None else _json(result, 201)
    return Response(status_code=204) if result is None else _json(result)


routes = [
    Route("/rest/v1/rpc/{function}", _call, methods=["POST"]),
    Route("/rest/v1/{relation}", _table, methods=["GET", "POST", "PATCH", "DELETE"]),
]
