"""How many replicas the jobs in the queue need: an autoscaling policy for Ray Serve.

It knows the service's queue endpoint and no store, and nothing else of this project: Serve pickles
this module by value and runs it inside its controller, so only the standard library is imported.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
import urllib.request
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

#: An answer has a few hundred bytes.
_MAX_ANSWER = 65536


class QueuedWork:
    """Asks for one replica for so many jobs that wait or run, as far as they may run at once.

    Serve's own policy sees the calls that a deployment has now. A job that waits for the stage
    before has none yet, and loading weights takes longer than that stage: this policy begins with
    the job. It never asks for less than the calls need, and goes by them alone while the endpoint
    is silent. Bounds and delays are those of the `autoscaling_config`.

    In YAML:

        policy:
          policy_function: deployments.scaling:QueuedWork
          policy_kwargs:
            url: http://127.0.0.1:8000/api/v1/queue
            jobs_per_replica: 2
            kinds: [generate]

    Args:
        url: of the queue endpoint, as the node of the controller reaches it.
        jobs_per_replica: how many jobs keep one replica busy: a job spends but a part of its time
            in each deployment.
        kinds: of the jobs that come to the deployment; None counts all.
        period_s: between two questions.
        timeout_s: of a question.
        stale_s: an older answer is worth nothing.
    """

    def __init__(
        self,
        url: str,
        jobs_per_replica: float = 1.0,
        kinds: Sequence[str] | None = None,
        period_s: float = 2.0,
        timeout_s: float = 2.0,
        stale_s: float = 30.0,
    ) -> None:
        if not str(url).startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, got {url!r}")
        if kinds is not None and not isinstance(kinds, (list, tuple)):
            raise ValueError(f"kinds must be a list, got {kinds!r}")
        if not min(jobs_per_replica, period_s, timeout_s, stale_s) > 0:
            raise ValueError("jobs_per_replica, period_s, timeout_s and stale_s must be above 0")
        self._jobs_per_replica = jobs_per_replica
        self._stale_s = stale_s
        self._poll = _Poll(url, None if kinds is None else tuple(kinds), period_s, timeout_s)
        self._started = False
        # A redeploy makes a new policy and drops this one: its thread must not stay. The thread
        # therefore knows nothing of the policy.
        weakref.finalize(self, self._poll.stop.set)

    def __call__(self, ctx: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Runs on the controller's loop ten times a second: only reads what is known."""
        if not self._started:
            # Not before the controller asks: a policy is also made where a file is checked.
            self._started = True
            self._poll.start()
        config: Any = ctx.config
        calls = math.ceil(ctx.total_num_requests / config.get_target_ongoing_requests())
        wanted = max(calls, self._for_jobs())
        if ctx.current_num_replicas == 0:
            # Serve skips its delays while no replica runs; those that are starting must not be
            # taken back.
            wanted = max(wanted, ctx.target_num_replicas)
        return wanted, {}

    def _for_jobs(self) -> int:
        answer = self._poll.newest
        if answer is None or time.monotonic() - answer[0] > self._stale_s:
            return 0
        return math.ceil(answer[1] / self._jobs_per_replica)


class _Poll(threading.Thread):
    """Asks the queue endpoint until it is stopped."""

    def __init__(
        self, url: str, kinds: tuple[str, ...] | None, period_s: float, timeout_s: float
    ) -> None:
        super().__init__(name=f"queued-work {url}", daemon=True)
        self._url = url
        self._kinds = kinds
        self._period_s = period_s
        self._timeout_s = timeout_s
        # The endpoint is a neighbour: proxies of the environment are for the world outside.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.stop = threading.Event()
        #: When the newest answer came (monotonic clock) and the jobs it counted.
        self.newest: tuple[float, int] | None = None

    def run(self) -> None:
        log = logging.getLogger("ray.serve")
        answers = True
        while not self.stop.is_set():
            try:
                self.newest = time.monotonic(), self._ask()
            except Exception as error:
                # Whatever came, the next answer may be better. Logged once, not every two seconds.
                if answers:
                    log.warning("scaling: no answer from %s: %r", self._url, error)
                answers = False
            else:
                if not answers:
                    log.info("scaling: %s answers again", self._url)
                answers = True
            self.stop.wait(self._period_s)

    def _ask(self) -> int:
        with self._opener.open(self._url, timeout=self._timeout_s) as response:
            answer = json.loads(response.read(_MAX_ANSWER))
        if self._kinds is None:
            jobs = _count(answer, "queued") + _count(answer, "running")
        else:
            by_kind = [_part(answer, "queued_by_kind"), _part(answer, "running_by_kind")]
            jobs = sum(_count(part, kind, 0) for part in by_kind for kind in self._kinds)
        # The others wait for these, not for replicas.
        return min(jobs, _count(answer, "max_running_jobs", jobs))


def _part(answer: Any, key: str) -> Any:
    if not isinstance(answer, dict) or not isinstance(answer.get(key), dict):
        raise ValueError(f"the answer has no {key}")
    return answer[key]


def _count(answer: Any, key: str, missing: int | None = None) -> int:
    count = answer.get(key, missing) if isinstance(answer, dict) else None
    if not isinstance(count, int) or count < 0:
        raise ValueError(f"the answer has no number {key}")
    return count
