"""The OpenAPI document is true: what a stranger learns from it is what the service does."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import openapi_python_client
import pytest
import schemathesis
from hypothesis import strategies as st
from openapi_python_client.config import Config, ConfigFile, MetaType
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.engine import events, from_schema

from deployments.jobs.rows import JobState, ProjectStatus
from pipeline.options import SPLAT_LIMITS
from serve_app.http.app import create_app
from serve_app.http.dependencies import Limits
from tests.serve_app.http.test_contract import API, photo, upload
from tests.serve_app.http.test_jobs import HOOK, RULES
from tests.serve_app.http.test_masks import drawn


@pytest.fixture
def limits() -> Limits:
    """Nothing is waited for longer than it takes to see what the answer is like."""
    return Limits(max_upload_bytes=1024 * 1024, max_wait_s=20, max_queued_jobs=20)


@pytest.fixture
def document(service) -> dict[str, Any]:
    return service.app.openapi()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_error_is_declared_as_a_problem_document(document):
    for name, operation in operations(document).items():
        for status, answer in operation["responses"].items():
            if status < "400":
                continue
            # What is not ready says so by check.
            if (name, status) == ("GET /ready", "503"):
                continue
            content = {"schema": {"$ref": "#/components/schemas/Problem"}}
            assert answer["content"] == {"application/problem+json": content}, (name, status)
    assert "HTTPValidationError" not in json.dumps(document)


def test_states_kinds_and_statuses_are_enums_and_results_are_told_apart_by_kind(document):
    schemas = document["components"]["schemas"]
    assert schemas["JobState"]["enum"] == [*JobState]
    assert schemas["ProjectStatus"]["enum"] == [*ProjectStatus]
    job = schemas["JobAnswer"]
    assert job["discriminator"]["propertyName"] == "kind"
    assert set(job["discriminator"]["mapping"]) == {"generate", "refine", "export"}
    assert {ref["$ref"] for ref in job["oneOf"]} == set(job["discriminator"]["mapping"].values())


def test_operations_have_short_names(document):
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(names)) == len(names)
    assert {"upload", "generate", "refine", "export", "get_status", "get_job"} < set(names)


def test_every_body_and_every_json_answer_has_an_example_that_fits(document):
    schemas = document["components"]["schemas"]
    for name, operation in operations(document).items():
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            schema = part.get("content", {}).get("application/json", {}).get("schema", {})
            for option in schema.get("anyOf", [schema]):
                reference = option.get("$ref", "").rpartition("/")[2]
                # The options of a union have examples of their own.
                assert not reference or {"examples", "oneOf"} & set(schemas[reference]), name
    for name, schema in schemas.items():
        for example in schema.get("examples", ()):
            whole = {**document, "$ref": f"#/components/schemas/{name}"}
            jsonschema.Draft202012Validator(whole).validate(example)


def test_servers_and_security_are_what_the_application_was_made_with(service, document):
    assert not {"servers", "security"} & set(document)
    key = {"type": "http", "scheme": "bearer"}
    servers = [{"url": "https://glimpse.example.com"}]
    told = create_app(service.services, servers=servers, security={"key": key}).openapi()
    assert told["servers"] == servers
    assert told["security"] == [{"key": []}]
    assert told["components"]["securitySchemes"] == {"key": key}


async def test_a_path_names_all_of_its_methods_when_one_is_refused(service):
    for path, allowed in (
        ("projects/x", "GET, HEAD, DELETE"),
        ("projects", "GET, HEAD"),
        ("upload", "POST"),
        ("export/x", "GET"),
    ):
        answer = await service.http.put(f"{API}/{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 200),
        ("bytes=1-3", 206),
        ("bytes=0-1,3-4", 206),
        ("bytes=999999999-", 416),
        ("x", 200),
    ],
)
async def test_answers_of_files_are_as_declared(service, document, given, status):
    project_id = await upload(service)
    project = (await service.http.get(f"{API}/projects/{project_id}")).json()
    headers = {} if given is None else {"Range": given}
    answer = await service.http.get(project["original_url"], headers=headers)
    assert answer.status_code == status
    declared = operations(document)["GET /files/{bucket}/{path}"]["responses"][str(status)]
    assert answer.headers["content-type"].partition(";")[0] in declared["content"]
    for name in declared["headers"]:
        is_required = document["components"]["headers"][name]["required"]
        assert name.lower() in answer.headers or not is_required, name


# -- a stranger who tries everything ---------------------------------------------------------------

#: Bounded and without chance. The example of an upload cannot hold a photo: JSON has no bytes.
SCHEMATHESIS = {
    "generation": {"max-examples": 3, "deterministic": True, "database": "none"},
    "phases": {"coverage": {"unexpected-methods": ["put", "options"]}},
    "operations": [
        {"include-name": "POST /api/v1/upload", "phases": {"examples": {"enabled": False}}}
    ],
    "continue-on-failure": True,
}


def explore(address: str, projects: list[str], job: str, cursor: str) -> list[str]:
    """All checks of schemathesis over a running service; what they found.

    Args:
        projects, job, cursor: real ones, which nobody would guess.
    """
    schemathesis.openapi.format("binary", st.just(photo((64, 64))))
    schemathesis.openapi.format("uri", st.just(HOOK))
    config = SchemathesisConfig.from_dict(SCHEMATHESIS)
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)
    count = 0

    @schema.hook
    def map_case(context: Any, case: Any) -> Any:
        nonlocal count
        count += 1

        def is_valid(where: ParameterLocation) -> bool:
            return not case.meta.is_negative_at(where)

        if case.method != "DELETE":
            if "project_id" in case.path_parameters:
                case.path_parameters["project_id"] = projects[count % len(projects)]
            if "job_id" in case.path_parameters:
                case.path_parameters["job_id"] = job
        if case.query.get("cursor") and is_valid(ParameterLocation.QUERY):
            case.query["cursor"] = cursor
        # The same key for another request is refused, rightly.
        if case.headers.get("Idempotency-Key") and is_valid(ParameterLocation.HEADER):
            case.headers["Idempotency-Key"] = f"key-{count}"
        # What only a generator has is refused where there is none.
        if case.path.startswith("/api/v1/generate/") and is_valid(ParameterLocation.BODY):
            body = case.body if isinstance(case.body, dict) else {}
            for name in ("engine", "shift", "image_type", "decode_seed"):
                body.pop(name, None)
            if (body.get("num_gaussians") or 0) > SPLAT_LIMITS[1]:
                body["num_gaussians"] = SPLAT_LIMITS[1]
        # Nor are photos what nobody has seen.
        if case.headers.get("If-Match") is not None and is_valid(ParameterLocation.HEADER):
            case.headers["If-Match"] = "*"
        # No photo is a mask for another one.
        if case.path.endswith("/mask") and is_valid(ParameterLocation.BODY):
            case.body = {"file": drawn((64, 64))}
        return case

    @schema.hook
    def filter_case(context: Any, case: Any) -> bool:
        # What a schema does not say: the header goes before the query ...
        if "Last-Event-ID" in case.headers and "last_event_id" in case.query:
            return False
        # ... fields of a form are text, where 0 and 1 are booleans, and no example is a photo ...
        body = case.body if isinstance(case.body, dict) else {}
        files = body["file"] if isinstance(body.get("file"), list) else [body.get("file")]
        if type(body.get("remove_bg")) is int or any(isinstance(file, str) for file in files):
            return False
        # ... from stands without some others, and version not without it ...
        if case.path.startswith("/api/v1/generate/") and {"from", "version"} & body.keys():
            return False
        # ... the only photo there is may not come twice, as many sides as files, and a side and
        # angles exclude each other; something is to be put.
        angles = {"azimuth_deg", "elevation_deg"} & set(body)
        says = angles | ({"file", "side", "order"} & set(body))
        is_photo = "/photos/" in case.path and not case.path.endswith("/mask")
        puts_nothing = case.method == "PUT" and is_photo and not says
        both = bool(angles) and "side" in body
        return not (len(files) > 1 or isinstance(body.get("side"), list) or both or puts_nothing)

    found = []
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(str(event))
        elif isinstance(event, events.ScenarioFinished):
            checks = [check for of_case in event.recorder.checks.values() for check in of_case]
            found += [
                f"{check.failure_info.failure}\n{check.failure_info.code_sample}"
                for check in checks
                if check.failure_info is not None
            ]
    assert count > 100, "it did try"
    return found


@pytest.mark.long
async def test_a_stranger_who_tries_everything_finds_nothing(service, serving):
    first, second = [await upload(service, photo((64, 64))) for _ in range(2)]
    made = await service.http.post(f"{API}/generate/{first}")
    page = (await service.http.get(f"{API}/projects?limit=1")).json()
    hurried = replace(service.limits, max_wait_s=0.02, max_stream_s=0.05)
    service.app.state.services = replace(service.services, limits=hurried, webhooks=RULES)
    found = await asyncio.to_thread(
        explore, serving, [first, second], made.json()["job_id"], page["next_cursor"]
    )
    assert not found, "\n\n".join(found)


# -- a stranger who has a client made --------------------------------------------------------------


@pytest.fixture
def generated(document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that imports modules of a client that was generated from the document."""
    source = tmp_path / "openapi.json"
    source.write_text(json.dumps(document))
    # Not formatted: nobody reads it.
    config = Config.from_sources(
        ConfigFile(post_hooks=[]),
        MetaType.NONE,
        source,
        "utf-8",
        overwrite=False,
        output_path=tmp_path / "generated_client",
    )
    faults = openapi_python_client.generate(config=config)
    assert not faults, [f"{fault.header}: {fault.detail}" for fault in faults]
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda name: importlib.import_module(f"generated_client.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "generated_client"]:
        del sys.modules[name]


async def test_a_generated_client_goes_the_whole_way(service, generated):
    models, projects = generated("models"), "api.projects"
    client = generated("client").Client(base_url="http://test")
    client.set_async_httpx_client(service.http)

    async def call(room: str, name: str, *args: Any, **kwargs: Any) -> Any:
        return await generated(f"{room}.{name}").asyncio(*args, client=client, **kwargs)

    file = generated("types").File(payload=io.BytesIO(photo()), file_name="photo.png")
    uploaded = await call(projects, "upload", body=models.BodyUpload(file=[file]))
    assert isinstance(uploaded, models.UploadAnswer), uploaded
    project_id = uploaded.project_id

    refused = await call(projects, "refine", project_id, body=models.RefineBody())
    assert (type(refused), refused.code) == (models.Problem, "not_generated_yet")

    body = models.GenerateBody(preset=models.GenerateBodyPreset.DRAFT, seed=7)
    made = await call(projects, "generate", project_id, body=body)
    assert (type(made), made.seed) == (models.GenerateAnswer, 7)
    job = await call("api.jobs", "get_job", made.job_id)
    assert (type(job), job.state) == (models.GenerateJobAnswer, models.JobState.SUCCEEDED)
    assert job.result == made

    status = await call(projects, "get_status", project_id)
    assert status.project.status is models.ProjectStatus.COMPLETED
    assert status.pipeline_progress.multiview_images.completed == 16
    assert status.job == job

    exported = await call(projects, "export", project_id, format_=models.ExportFormat.GLB)
    assert (type(exported), exported.media_type) == (models.ExportAnswer, "model/gltf-binary")
    assert len((await service.http.get(exported.download_url)).content) == exported.file_size_bytes

    started = await call(projects, "export", project_id, prefer="respond-async", optimize=True)
    assert isinstance(started, models.ExportJobAnswer)
