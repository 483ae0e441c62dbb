"""What the OpenAPI document says beyond the types of the routes: errors, headers, examples.

It knows the document that FastAPI makes and the problem documents; no route.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from deployments.jobs import job_errors
from pipeline import errors
from pipeline.errors import GlimpseError
from serve_app.http.problems import MEDIA_TYPE, HeadersTooLarge, Problem, UrlTooLong, status_of

#: `responses` of a route.
Responses = dict[int | str, dict[str, Any]]

#: What a route may answer that reads or changes what an id names.
ID_ERRORS = (errors.InvalidInput, errors.NotFound, errors.Unavailable, GlimpseError)

#: What an engine may end with.
ENGINE_ERRORS = (
    errors.OutOfMemory,
    errors.ModelFailed,
    errors.ReplicaDied,
    errors.DeviceLost,
    errors.TimedOut,
)

#: What a route may answer that submits a job and waits for it, beside `ID_ERRORS`.
JOB_ERRORS = (
    errors.InvalidOption,
    errors.InvalidModelFile,
    job_errors.ProjectBusy,
    errors.Conflict,
    errors.Cancelled,
    job_errors.StaleAttempt,
    job_errors.TooBusy,
    job_errors.AttemptsExhausted,
    *ENGINE_ERRORS,
)

_TEXT, _SECONDS = {"type": "string"}, {"type": "integer", "minimum": 0}

#: Headers of answers: description, schema, and whether an answer that declares it always has it.
_HEADERS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "X-Request-ID": (
        "The id of the request, in problem documents and the service's log. An id of the client's "
        "own, in a header of this name, is taken over and not repeated.",
        _TEXT,
        False,
    ),
    "Location": ("Where to go on.", _TEXT, True),
    "Retry-After": ("Seconds after which to ask again.", _SECONDS, True),
    "Preference-Applied": ("The part of `Prefer` that was honoured.", _TEXT, False),
    "Cache-Control": ("How long the answer may be kept.", _TEXT, True),
    "ETag": ("Changes with the file.", _TEXT, True),
    "Last-Modified": ("When the file was written.", _TEXT, True),
    "Accept-Ranges": ("`bytes`.", _TEXT, True),
    "Content-Range": ("Which bytes these are, of how many.", _TEXT, False),
    "Content-Disposition": ("The name of the file.", _TEXT, True),
    "Vary": ("`Accept`, where that decides.", _TEXT, False),
}


def headers(*names: str) -> dict[str, Any]:
    """The `headers` of a response, by name."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def problems(*kinds: type[GlimpseError]) -> Responses:
    """The `responses` that are problem documents: one for each status of these errors."""
    codes: dict[int, list[str]] = defaultdict(list)
    for kind in kinds:
        status, title = status_of(kind)
        codes[status].append(f"`{kind.code}`: {title}.")
    return {
        status: {
            "description": " ".join(sorted(codes[status])),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            **({"headers": headers("Retry-After")} if status == 503 else {}),
        }
        for status in sorted(codes)
    }


def complete(document: dict[str, Any], security: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """FastAPI's document with what the routes refer to, and what all of them have.

    Args:
        security: security schemes by name, any one of which lets a request in.
    """
    components = document["components"]
    schemas = components["schemas"]
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"))
    schemas["Problem"] = problem
    components["headers"] = {
        name: {"description": description, "schema": schema, "required": required}
        for name, (description, schema, required) in _HEADERS.items()
    }
    # FastAPI declares its own answer to invalid parameters where a route does not declare one:
    # where every text is valid.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            if "HTTPValidationError" in json.dumps(responses.get("422", {})):
                del responses["422"]
            responses.update(
                (str(status), response)
                for status, response in problems(UrlTooLong, HeadersTooLarge).items()
            )
            for response in responses.values():
                response.setdefault("headers", {}).update(headers("X-Request-ID"))
    for name, example in json.loads((files(__package__) / "examples.json").read_text()).items():
        schemas[name]["examples"] = [example]
    if security:
        components["securitySchemes"] = {name: dict(scheme) for name, scheme in security.items()}
        document["security"] = [{name: []} for name in security]
    return document
