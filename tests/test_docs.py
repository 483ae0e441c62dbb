"""Documentation that has to be true: every route, setting and error code is on its page."""

import re
from pathlib import Path

from fastapi.routing import APIRoute

from deployments.jobs import job_errors
from pipeline import errors
from pipeline.engines.registry import engine_specs, weights_catalogue
from pipeline.file_types import FORMATS, media_type
from pipeline.mesh.texture import UNWRAP_LIMIT
from serve_app.http.routes import (
    events,
    files,
    health,
    jobs,
    library,
    project_photos,
    projects,
    reports,
    uploads,
)
from serve_app.http.schemas.job_answers import GenerateJobAnswer, QueueAnswer
from serve_app.http.schemas.project_answers import (
    IterationAnswer,
    ModelAnswer,
    ProjectPageAnswer,
    ProjectResource,
    StatusAnswer,
)
from serve_app.http.schemas.request_bodies import (
    ExportQuery,
    GenerateBody,
    ProjectsQuery,
    RefineBody,
    ReportQuery,
)
from serve_app.http.schemas.result_answers import (
    ExportAnswer,
    GenerateAnswer,
    MetricAnswer,
    RefineAnswer,
)
from serve_app.http.schemas.service_answers import ManifestAnswer
from serve_app.report.assemble import IterationReport, JobReport, RefinementReport, Report
from serve_app.settings import AppArgs, Environment

ROOT = Path(__file__).parents[1]
API = (ROOT / "docs/api.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
GPU = (ROOT / "docs/gpu.md").read_text()
README = (ROOT / "README.md").read_text()


def test_every_route_is_documented():
    for module in (
        projects,
        uploads,
        project_photos,
        library,
        reports,
        jobs,
        events,
        files,
        health,
    ):
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            if route.include_in_schema:
                path = route.path.replace(":path", "").replace(":int", "")
                assert f"`{min(route.methods)} {path}`" in API, route.path


def test_every_option_is_documented():
    for body in (GenerateBody, RefineBody, ExportQuery, ReportQuery, ProjectsQuery):
        for name, field in body.model_fields.items():
            assert f"`{field.alias or name}`" in API, name


def test_every_option_of_an_export_stands_with_its_default():
    for name, field in ExportQuery.model_fields.items():
        shown = {False: "false", None: "none"}.get(field.default, field.default)
        assert re.search(rf"^\| `{name}` \| `?{shown}`? \|", API, re.MULTILINE), name


def test_every_format_is_documented_with_its_file_and_media_type():
    for known in FORMATS.values():
        file = f"final.{known.suffix}"
        assert f"| `{known.name}` | `{file}` | `{media_type(file)}` |" in API, known.name


def test_every_field_of_answers_is_documented():
    for answer in (
        ExportAnswer,
        GenerateAnswer,
        IterationAnswer,
        GenerateJobAnswer,
        ManifestAnswer,
        MetricAnswer,
        ModelAnswer,
        ProjectPageAnswer,
        ProjectResource,
        QueueAnswer,
        RefineAnswer,
        StatusAnswer,
    ):
        for name in answer.model_fields:
            assert f"`{name}`" in API, name
    for part in (Report, RefinementReport, IterationReport, JobReport):
        for name in part.model_fields:
            assert f"`{name}`" in API, name
    assert f"more than {UNWRAP_LIMIT:,} faces" in API


def test_every_error_code_is_documented():
    kinds = [k for module in (errors, job_errors) for k in vars(module).values()]
    codes = {k.code for k in kinds if isinstance(k, type) and issubclass(k, errors.GlimpseError)}
    assert len(codes) > 15
    for code in codes:
        assert f"`{code}`" in API, code


def test_every_code_of_http_and_sql_is_documented():
    sql = "".join(path.read_text() for path in (ROOT / "supabase/migrations").glob("*.sql"))
    codes = set(re.findall(r"'code', '(\w+)'", sql)) | {"http_error", "method_not_allowed"}
    assert "attempts_exhausted" in codes
    for code in codes:
        assert f"`{code}`" in API, code


def test_nothing_is_left_to_be_filled_in():
    for page in (README, API, OPERATIONS):
        assert not re.search(r"\b[A-Z]+_TABLE\b|\bTBD\b", page)


def test_every_setting_is_documented():
    for name in Environment.model_fields:
        assert f"| `{name.upper()}` |" in OPERATIONS, name
    for name in AppArgs.model_fields:
        assert f"`{name}`" in OPERATIONS, name


def test_every_engine_and_its_options_are_documented():
    for spec in engine_specs():
        assert f"`{spec.name}`" in OPERATIONS + GPU, spec.name
        for option in spec.options:
            assert f"`{option}`" in GPU, option
        if not spec.commercial:
            assert re.search(rf"`{spec.name}`.*not for commercial use", GPU), spec.name
    for bundle in weights_catalogue().bundles.values():
        assert bundle.licence.removeprefix("CreativeML-") in GPU


def test_every_test_named_by_the_fault_table_exists():
    named = set(re.findall(r"`(test_\w+)`", OPERATIONS))
    assert len(named) >= 5
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in named:
        assert f"def {name}(" in written, name


def test_the_readme_opens_with_the_two_commands_and_its_links_lead_somewhere():
    assert README.index("make demo") < README.index("make test") < 1000
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
