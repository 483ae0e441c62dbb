import pytest

from deployments.jobs import job_errors
from deployments.jobs.rows import JobKind
from pipeline import errors
from pipeline.errors import GlimpseError
from serve_app.http.problems import status_of
from serve_app.http.waiting import Preference, fingerprint, parse_prefer


def tree(root: type[GlimpseError]) -> list[type[GlimpseError]]:
    return [root, *(c for sub in root.__subclasses__() for c in tree(sub))]


def test_every_error_has_a_status_and_a_code_of_its_own():
    ours = [c for c in tree(GlimpseError) if c.__module__ in (errors.__name__, job_errors.__name__)]
    assert len(ours) > 15
    for kind in ours:
        status, title = status_of(kind)
        assert 400 <= status < 600
        assert title
    codes = [kind.code for kind in ours]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", Preference()),
        ("respond-async", Preference(respond_async=True)),
        ("respond-async, wait=10", Preference(True, 10)),
        ("wait=5", Preference(False, 5)),
        ('Wait="7"; foo', Preference(False, 7)),
        ("return=minimal, wait=soon", Preference()),
    ],
)
def test_prefer_is_read_as_rfc_7240_says(header, wanted):
    assert parse_prefer(header) == wanted


def test_equal_requests_have_equal_fingerprints():
    a = fingerprint(JobKind.REFINE, "p", {"x": 1, "y": 2})
    assert a == fingerprint(JobKind.REFINE, "p", {"y": 2, "x": 1})
    assert a != fingerprint(JobKind.REFINE, "q", {"x": 1, "y": 2})
