"""What is foretold of a job's end, from plain values."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.jobs.rows import Job, JobKind, JobState, Queue
from serve_app.http.eta import eta_s, stage_group

T0 = datetime(2026, 11, 22, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


JOB = Job(
    id="j",
    project_id="p",
    kind=JobKind.GENERATE,
    state=JobState.RUNNING,
    options={},
    stage="views",
    step="",
    progress=0.0,
    attempt=1,
    max_attempts=3,
    fence=1,
    cancel_requested=False,
    timings={},
    memory={},
    expected={},
    error=None,
    last_error=None,
    result=None,
    queue_position=None,
    ordinal=1,
    number=7,
    created_at=T0,
    step_started_at=T0,
    started_at=T0,
    finished_at=None,
    read_at=T0,
)
QUEUED = replace(JOB, state=JobState.QUEUED, queue_position=1, started_at=None)


@pytest.mark.parametrize(
    ("stage", "group"),
    [
        ("views", "views"),
        ("iteration-12", "iteration"),
        ("previews-v2", "previews"),
        ("contact-sheet", "contact-sheet"),
        ("contact-sheet-3", "contact-sheet"),
    ],
)
def test_numbered_stages_are_one_group(stage, group):
    assert stage_group(stage) == group


def test_a_running_job_has_left_what_others_took_less_what_it_has_done():
    job = replace(JOB, expected={"views": 10, "iteration": 30, "previews": 5})
    assert eta_s(job, None, at(4)) == 41
    job = replace(
        job,
        timings={"views": 25, "iteration-1": 8, "iteration-2": 9, "other": 99},
        step_started_at=at(100),
    )
    assert eta_s(job, None, at(103)) == 13 + 5 - 3, "more than expected counts for nothing else"


def test_what_takes_longer_than_foretold_goes_by_its_progress():
    job = replace(JOB, expected={"views": 10}, progress=0.5)
    assert eta_s(job, None, at(9)) == 1
    assert eta_s(job, None, at(40)) == 40
    assert eta_s(replace(job, progress=0.01), None, at(40)) is None


def test_without_history_a_running_job_goes_by_its_progress():
    assert eta_s(replace(JOB, progress=0.25), None, at(10)) == 30
    assert eta_s(JOB, None, at(10)) is None
    assert eta_s(replace(JOB, progress=0.5, started_at=None), None, at(10)) is None


def test_a_queued_job_also_waits_for_those_before_it():
    assert eta_s(QUEUED, None, at(10)) is None
    job = replace(QUEUED, expected={"views": 10, "depth": 20})
    assert eta_s(job, None, at(10)) == 30
    job = replace(job, queue_position=4)
    two = Queue({JobKind.GENERATE: 4}, {JobKind.GENERATE: 1, JobKind.EXPORT: 1})
    assert eta_s(job, two, at(10)) == 30 + 3 * 30 / 2
    for idle in (None, Queue({}, {})):
        assert eta_s(job, idle, at(10)) == 30 + 3 * 30
    begun = replace(job, queue_position=1, timings={"views": 8})
    assert eta_s(begun, two, at(10)) == 22, "what an earlier attempt committed is not done again"


@pytest.mark.parametrize("state", [state for state in JobState if state.ended])
def test_an_ended_job_has_nothing_left(state):
    assert eta_s(replace(JOB, state=state, expected={"views": 9}, progress=1), None, T0) is None


seconds = st.floats(0, 1e5, allow_nan=False)
stages = st.dictionaries(
    st.sampled_from(["views", "depth", "iteration", "iteration-1", "iteration-2", "previews-v0"]),
    seconds,
)


@given(
    expected=stages,
    timings=stages,
    progress=st.floats(0, 1.5, allow_nan=False),
    step_at=st.none() | st.floats(-100, 1e4),
    started_at=st.none() | st.floats(-100, 1e4),
    state=st.sampled_from(JobState),
    position=st.integers(1, 1000),
    running=st.integers(0, 9),
    now=seconds,
    later=st.floats(0, 1e4),
)
def test_it_is_never_negative_and_falls_as_time_passes(
    expected, timings, progress, step_at, started_at, state, position, running, now, later
):
    job = replace(
        JOB,
        state=state,
        expected=expected,
        timings=timings,
        progress=progress,
        step_started_at=None if step_at is None else at(step_at),
        started_at=None if started_at is None else at(started_at),
        queue_position=position if state is JobState.QUEUED else None,
    )
    queue = Queue({}, {JobKind.REFINE: running})
    first, second = eta_s(job, queue, at(now)), eta_s(job, queue, at(now + later))
    assert first is None or first >= 0
    assert second is None or second >= 0
    # An extrapolation grows as long as nothing happens; what was foretold does not.
    foretold = eta_s(replace(job, progress=0), queue, at(now + later))
    if foretold is not None:
        assert first is not None
        assert foretold <= first
