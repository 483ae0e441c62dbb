"""How fast a status is answered while many ask, many listen and jobs run."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import numpy as np
import psutil

from bench.serving_alone import NAPS
from bench.serving_app import ONE_HOST, App, sleeping_app
from bench.serving_clients import Load, Seen, clients
from bench.table import Row
from serve_app.cli.demo import default_photo

__all__ = ["status"]

_JOBS = 4

#: The film is also encoded between its renders, and for a moment after the last one.
_AROUND_S = 1.0

#: Connections are made and code is imported meanwhile; it does not count.
_WARM_UP_S = 3.0


def status(*, quick: bool) -> list[Row]:
    """Four jobs run all the time, each with engines of its own; one ends, the next one begins."""
    seconds = 8.0 if quick else 60.0
    options = {"Models": {"num_replicas": _JOBS}}
    with sleeping_app(options=options, hosts=ONE_HOST, max_running_jobs=_JOBS) as app:
        # The jobs of the overhead, but not in step: their films would all be made at once.
        app.naps({name: s / 5 for name, s in NAPS.items()} if quick else NAPS)
        photo = default_photo().read_bytes()
        projects = tuple(app.upload(photo) for _ in range(_JOBS))
        with _jobs_for_ever(app, projects) as done:
            load = Load(app.url, projects, 50, 1.0, 20, seconds + _WARM_UP_S)
            psutil.cpu_percent()
            with clients(load) as process, _Cpu() as cpu:
                out, _ = process.communicate()
                busy = psutil.cpu_percent()
            films = _films(app)
    seen = Seen(**json.loads(out))
    return [
        *_rows(load, seen, films, done),
        Row("  all cores busy", busy, "%", details={"cores": cpu.cores}),
    ]


def _films(app: App) -> list[tuple[float, float]]:
    """Spans of the wall clock in which pictures were drawn and encoded, which takes every core."""
    renders = [nap for nap in app.slept() if nap["name"] == "render"]
    return [(nap["began"] - _AROUND_S, nap["ended"] + _AROUND_S) for nap in renders]


def _by_second(polls: Sequence[tuple[float, float]]) -> list[float]:
    """Whether it got slower and slower: the clients then asked for more than can be answered."""
    seconds: dict[int, list[float]] = defaultdict(list)
    for at, s in polls:
        seconds[int(at)].append(s)
    return [round(1e3 * median(seconds[second]), 1) for second in sorted(seconds)]


class _Cpu:
    """Cores that the children of this process keep busy, by what they are, in the block.

    What ends meanwhile, ffmpeg above all, is counted with who started it.
    """

    def __init__(self) -> None:
        self.cores: dict[str, float] = {}

    def __enter__(self) -> _Cpu:
        self._began, self._before = time.monotonic(), _cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._began
        sums: dict[str, float] = defaultdict(float)
        for pid, (name, used) in _cpu_seconds().items():
            sums[name] += used - self._before.get(pid, ("", 0.0))[1]
        most = sorted(sums.items(), key=lambda item: -item[1])[:12]
        self.cores = {name: round(used / seconds, 3) for name, used in most}


def _cpu_seconds() -> dict[int, tuple[str, float]]:
    """What a process is and its seconds so far, by its id."""
    used = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            words, times = process.cmdline() or [process.name()], process.cpu_times()
        except psutil.Error:
            continue
        # Ray's title of an actor names the method that runs, too: "ray::ServeReplica:a:B.method".
        name = words[0].partition(".")[0] if "::" in words[0] else words[0].rsplit("/", 1)[-1]
        name = " ".join(words[1:3]) if name.startswith("python") else name
        seconds = times.user + times.system + times.children_user + times.children_system
        used[process.pid] = (name, seconds)
    return used


def _rows(load: Load, seen: Seen, films: list[tuple[float, float]], done: list[str]) -> list[Row]:
    first = min(at for at, _ in seen.polls)
    polls = [(at, s) for at, s in seen.polls if at >= first + _WARM_UP_S]
    counted = [s for _, s in polls]
    calm = [s for at, s in polls if not any(began <= at <= end for began, end in films)]
    p50, p99 = (1e3 * float(np.percentile(counted, q)) for q in (50, 99))
    calm99 = 1e3 * float(np.percentile(calm or [0.0], 99))
    lag50, lag99 = (1e3 * float(np.percentile(seen.lags, q)) for q in (50, 99))
    details = {
        "statuses": len(counted),
        "statuses_meant": round(load.pollers * (load.seconds - _WARM_UP_S) / load.period_s),
        "longest_ms": 1e3 * max(counted),
        "p90_ms": 1e3 * float(np.percentile(counted, 90)),
        "calm": len(calm),
        "median_by_second_ms": _by_second(polls),
        "events": seen.events,
        "reopened": seen.reopened,
        "errors": seen.errors[:20],
        "jobs_ended": len(done),
    }
    return [
        Row("status, 50 clients and 20 streams, median", p50, "ms"),
        Row("status, 50 clients and 20 streams, 99%", p99, "ms", 50, details=details),
        Row("  99% while no film is made", calm99, "ms"),
        Row("  loop of the clients late, median", lag50, "ms"),
        Row("  loop of the clients late, 99%", lag99, "ms"),
        Row("  events of the streams", seen.events / load.seconds, "1/s"),
        Row("  answers that were none", len(seen.errors), "", 0),
    ]


@contextmanager
def _jobs_for_ever(app: App, projects: tuple[str, ...]) -> Iterator[list[str]]:
    """Keeps a job of every project running; the ids of those that have ended."""
    done: list[str] = []
    stop = threading.Event()

    def keep_busy(number: int, project: str) -> None:
        stop.wait(number * 0.9)
        while not stop.is_set():
            job_id = app.start(project)
            while not stop.is_set():
                if app.job(job_id, wait_s=2.0)["state"] not in ("queued", "running"):
                    done.append(job_id)
                    break

    threads = [threading.Thread(target=keep_busy, args=pair) for pair in enumerate(projects)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1.0 + _JOBS * 0.9)
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join()
