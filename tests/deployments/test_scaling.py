"""The autoscaling policy, asked as Serve's controller asks it, with a real endpoint behind it."""

import gc
import json
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ray.serve._private.common import DeploymentID
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from deployments.scaling import QueuedWork

#: Nobody listens there.
NOWHERE = "http://127.0.0.1:9/queue"

FIVE = {
    "queued": 4,
    "running": 3,
    "queued_by_kind": {"generate": 3, "export": 1},
    "running_by_kind": {"generate": 2, "refine": 1},
}


class Endpoint:
    """Answers every GET with `status` and `body`; counts the questions."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes = json.dumps(FIVE).encode()
        self.asked = 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.asked += 1
                self.send_response(endpoint.status)
                self.send_header("content-length", str(len(endpoint.body)))
                self.end_headers()
                self.wfile.write(endpoint.body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v1/queue"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def wait(self, more: int = 2) -> None:
        """Until so many further questions came: what was answered before the last one is known."""
        wanted = self.asked + more
        until(lambda: self.asked >= wanted)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    if pollers():
        gc.collect()
    until(lambda: not pollers(), "a policy's thread outlived it")


def until(true, reason="what was waited for did not come") -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, reason
        time.sleep(0.005)


def pollers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("queued-work")]


def context(requests=0.0, current=1, target=1, config=None) -> AutoscalingContext:
    return AutoscalingContext(
        deployment_id=DeploymentID("Views", "glimpse3d"),
        deployment_name="Views",
        app_name="glimpse3d",
        current_num_replicas=current,
        target_num_replicas=target,
        running_replicas=[],
        total_num_requests=lambda: requests,
        total_queued_requests=lambda: 0.0,
        aggregated_metrics=None,
        raw_metrics=None,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=4,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=time.time(),
        config=config or AutoscalingConfig(max_replicas=4, target_ongoing_requests=2),
    )


def asking(url: str, **more) -> QueuedWork:
    return QueuedWork(url, **{"period_s": 0.01, **more})


def known(policy: QueuedWork, endpoint: Endpoint) -> None:
    """The policy has begun and holds what the endpoint says now."""
    policy(context())
    endpoint.wait()


@pytest.mark.parametrize(
    ("kinds", "jobs_per_replica", "wanted"),
    [
        (None, 1, 7),
        (None, 2, 4),
        (None, 100, 1),
        (["generate"], 1, 5),
        (["generate"], 2, 3),
        (["generate", "refine"], 2, 3),
        (["refine"], 0.5, 2),
        (["repaint"], 1, 0),
        ([], 1, 0),
    ],
)
def test_jobs_that_wait_and_run_ask_for_replicas(endpoint, kinds, jobs_per_replica, wanted):
    policy = asking(endpoint.url, kinds=kinds, jobs_per_replica=jobs_per_replica)
    known(policy, endpoint)
    assert policy(context()) == (wanted, {})


@pytest.mark.parametrize(("kinds", "wanted"), [(None, 4), (["generate"], 4), (["export"], 1)])
def test_jobs_that_may_not_run_ask_for_no_replicas(endpoint, kinds, wanted):
    endpoint.body = json.dumps(FIVE | {"max_running_jobs": 4}).encode()
    policy = asking(endpoint.url, kinds=kinds)
    known(policy, endpoint)
    assert policy(context())[0] == wanted


def test_it_never_asks_for_less_than_the_calls_need(endpoint):
    policy = asking(endpoint.url, kinds=["refine"])
    known(policy, endpoint)
    assert policy(context(requests=2))[0] == 1
    assert policy(context(requests=2.1))[0] == 2
    assert policy(context(requests=9))[0] == 5


def test_it_follows_the_queue(endpoint):
    policy = asking(endpoint.url)
    known(policy, endpoint)
    assert policy(context())[0] == 7
    endpoint.body = json.dumps({**FIVE, "queued": 0, "running": 1}).encode()
    endpoint.wait()
    assert policy(context())[0] == 1


def test_replicas_that_are_starting_are_not_taken_back(endpoint):
    policy = asking(endpoint.url, kinds=["refine"])
    known(policy, endpoint)
    assert policy(context(current=0, target=3))[0] == 3
    assert policy(context(current=2, target=3))[0] == 1


def test_before_the_first_answer_the_calls_alone_count():
    policy = asking(NOWHERE)
    assert policy(context(requests=6))[0] == 3
    assert policy(context())[0] == 0


def test_an_old_answer_is_worth_nothing(endpoint):
    policy = asking(endpoint.url, stale_s=0.5)
    known(policy, endpoint)
    endpoint.status = 503
    until(lambda: policy(context(requests=3))[0] == 2)
    endpoint.status = 200
    until(lambda: policy(context(requests=3))[0] == 7)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b"{}",
        b'{"queued": "4", "running": 3}',
        b'{"queued": -4, "running": 3}',
        b'{"queued": 4}',
        b'{"queued": 4, "queued_by_kind": 1, "running_by_kind": {}}',
        b'{"queued_by_kind": {"generate": 1.5}, "running_by_kind": {}}',
        b"[" * 60_000,
        b" " * 70_000 + b"{}",
    ],
)
@pytest.mark.parametrize("kinds", [None, ["generate"]])
def test_an_answer_that_makes_no_sense_is_no_answer(endpoint, body, kinds):
    right, endpoint.body = endpoint.body, body
    policy = asking(endpoint.url, kinds=kinds)
    known(policy, endpoint)
    assert policy(context(requests=3))[0] == 2
    endpoint.body = right
    endpoint.wait()
    assert policy(context(requests=3))[0] > 2


def test_a_proxy_of_the_environment_is_not_asked(endpoint, monkeypatch):
    monkeypatch.setenv("http_proxy", NOWHERE)
    monkeypatch.delenv("no_proxy", raising=False)
    policy = asking(endpoint.url)
    known(policy, endpoint)
    assert policy(context())[0] == 7


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "127.0.0.1:8000"},
        {"url": 8000},
        {"jobs_per_replica": 0},
        {"jobs_per_replica": float("nan")},
        {"kinds": "generate"},
        {"period_s": 0},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        QueuedWork(**{"url": NOWHERE, **arguments})


# -- in Serve ------------------------------------------------------------------------------------


def serialized(url: str) -> AutoscalingPolicy:
    return AutoscalingPolicy(
        policy_function="deployments.scaling:QueuedWork",
        policy_kwargs={"url": url, "jobs_per_replica": 2, "period_s": 0.01},
    )


def test_serve_makes_it_from_its_name_and_bytes(endpoint):
    sent = serialized(endpoint.url)
    # As the controller has it: the public fields, and the bytes from the build task.
    arrived = AutoscalingPolicy.from_serialized_policy_def(
        sent.model_dump(), sent.get_serialized_policy_def()
    )
    policy = arrived.get_policy()(**arrived.policy_kwargs)
    known(policy, endpoint)
    assert policy(context())[0] == 4


def test_serve_applies_its_delays_to_what_is_asked_for(endpoint):
    config = AutoscalingConfig(max_replicas=4, upscale_delay_s=0, downscale_delay_s=1000)
    policy = asking(endpoint.url)
    known(policy, endpoint)
    decide = _apply_autoscaling_config(policy)
    assert decide(context(config=config))[0] == 7
    assert decide(context(current=9, target=9, config=config))[0] == 9


def test_its_bytes_need_nothing_of_this_project(tmp_path: Path):
    """The controller may be a process that cannot import us: here ours are forbidden."""
    script = """
import pickle, sys
from types import SimpleNamespace

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] not in {"deployments", "pipeline", "serve_app"}, name

sys.meta_path.insert(0, Forbidden())
QueuedWork = pickle.loads(sys.stdin.buffer.read())
policy = QueuedWork("http://127.0.0.1:9/queue")
config = SimpleNamespace(get_target_ongoing_requests=lambda: 2)
ctx = SimpleNamespace(total_num_requests=3, config=config, current_num_replicas=1)
print(policy(ctx))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=serialized(NOWHERE).get_serialized_policy_def(),
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip() == "(2, {})"


def test_only_a_policy_that_is_asked_has_a_thread(endpoint):
    policy = asking(endpoint.url)
    assert pollers() == []
    for _ in range(3):
        policy(context())
    assert len(pollers()) == 1


def test_its_thread_ends_with_it(endpoint):
    """A redeploy drops the wrapped policy and makes another."""
    decide = _apply_autoscaling_config(asking(endpoint.url, period_s=1000))
    decide(context())
    assert len(pollers()) == 1
    del decide
    until(lambda: not pollers())


def test_the_class_can_be_pickled_again_by_a_controller():
    """The controller writes checkpoints of what it was given."""
    from ray import cloudpickle

    policy = serialized(NOWHERE)
    again = cloudpickle.loads(cloudpickle.dumps(policy.get_policy()))
    assert again(NOWHERE)(context(requests=4))[0] == 2
    assert pickle.loads(pickle.dumps(policy)).policy_kwargs == policy.policy_kwargs
