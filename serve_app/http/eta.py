"""How long a job will still take, foretold from a `Job` alone.

Pure: no store, no clock. What similar jobs took stands in `Job.expected`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from deployments.jobs.rows import Job, JobState, Queue

#: "iteration-3" and "previews-v2" are "iteration" and "previews".
_NUMBER = re.compile(r"-v?\d+$")

#: Before so much progress an extrapolation says nothing.
_LEAST_PROGRESS = 0.02


def stage_group(stage: str) -> str:
    """A stage's name without its number, as in `Job.expected`."""
    return _NUMBER.sub("", stage)


def eta_s(job: Job, queue: Queue | None, now: datetime) -> float | None:
    """Seconds until the job ends; None where nothing is known, and of jobs that have ended.

    Args:
        queue: wanted for queued jobs only; None counts as one job that runs.
        now: by the clock that set the job's moments.
    """
    if job.state is JobState.RUNNING:
        left = _expected_left_s(job, now)
        # Longer than foretold: what is left to go by is how far it has come.
        return round(left, 1) if left > 0 else _extrapolated_s(job, now)
    if job.state is JobState.QUEUED and job.expected:
        total = sum(job.expected.values())
        running = sum(queue.running.values()) if queue else 0
        ahead = (job.queue_position or 1) - 1
        return round(max(total - _spent_s(job), 0.0) + ahead * total / max(running, 1), 1)
    return None


def _spent_s(job: Job) -> float:
    """What earlier attempts have committed of what is expected, stage by stage."""
    done = _grouped(job.timings)
    return sum(min(done[group], seconds) for group, seconds in job.expected.items())


def _expected_left_s(job: Job, now: datetime) -> float:
    left = sum(job.expected.values()) - _spent_s(job)
    if job.step_started_at is not None:
        left -= max((now - job.step_started_at).total_seconds(), 0.0)
    return max(left, 0.0)


def _extrapolated_s(job: Job, now: datetime) -> float | None:
    """As fast as so far, from the first start on."""
    if job.started_at is None or job.progress <= _LEAST_PROGRESS:
        return None
    elapsed = max((now - job.started_at).total_seconds(), 0.0)
    return round(elapsed * (1 - min(job.progress, 1.0)) / job.progress, 1)


def _grouped(timings: Mapping[str, float]) -> Mapping[str, float]:
    done: dict[str, float] = defaultdict(float)
    for stage, seconds in timings.items():
        done[stage_group(stage)] += seconds
    return done
