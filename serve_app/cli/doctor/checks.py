"""What a check is, and what runs them one after the other.

It does not know what is checked.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from pipeline.errors import GlimpseError
from serve_app.settings import Environment


class Status(StrEnum):
    """How a check went."""

    OK = "ok"
    #: It works, and deserves a look.
    WARNING = "warning"
    FAILED = "failed"
    #: Not tried.
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """What a step has found; `fix` says what to do, with the exact command or setting."""

    status: Status
    found: str
    fix: str | None = None


ok = partial(Finding, Status.OK)
skipped = partial(Finding, Status.SKIPPED)


def warning(found: str, fix: str) -> Finding:
    """One that deserves a look; it says how to do better."""
    return Finding(Status.WARNING, found, fix)


def failed(found: str, fix: str) -> Finding:
    """It does not work, or is not safe."""
    return Finding(Status.FAILED, found, fix)


@dataclass(frozen=True)
class Check:
    """A step that was run; the fields are the keys of `--json`."""

    name: str
    status: Status
    found: str
    fix: str | None
    seconds: float


@dataclass(frozen=True)
class Step:
    """A check to be run.

    Attributes:
        name: for people and programs.
        work: looks, and says what it found.
        needs: names of steps without which this one cannot work.
        fix: what to do when `work` raises an error of our tree, or takes too long.
        limit_s: longest time for it; None: it keeps times of its own.
    """

    name: str
    work: Callable[[], Finding | Awaitable[Finding]]
    needs: tuple[str, ...] = ()
    fix: str = ""
    limit_s: float | None = 30.0


class Round(ABC):
    """One round of checks of a store; what a step has learnt, later ones use."""

    def __init__(self, env: Environment, stack: AsyncExitStack) -> None:
        self._env, self._stack = env, stack
        #: What the database says of itself, and our clock before and after that.
        self._inspected: Mapping[str, Any] = {}
        self._asked = (0.0, 0.0)

    @classmethod
    @asynccontextmanager
    async def steps_of(cls, env: Environment) -> AsyncIterator[Sequence[Step]]:
        """The steps in order; leaving the context closes and stops what they opened."""
        async with AsyncExitStack() as stack:
            yield cls(env, stack).steps()

    @abstractmethod
    def steps(self) -> Sequence[Step]:
        """In order."""


async def run_steps(steps: Iterable[Step]) -> AsyncIterator[Check]:
    """Run steps in order; those that need one that failed or was skipped are skipped.

    Errors of our tree are crosses. Any other exception is a mistake in here and comes out.
    """
    passed: set[str] = set()
    for step in steps:
        began_s = time.perf_counter()
        lacking = [name for name in step.needs if name not in passed]
        finding = skipped(f"needs {', '.join(lacking)}") if lacking else await _outcome(step)
        if finding.status in (Status.OK, Status.WARNING):
            passed.add(step.name)
        seconds = round(time.perf_counter() - began_s, 3)
        yield Check(step.name, finding.status, finding.found, finding.fix, seconds)


async def _outcome(step: Step) -> Finding:
    try:
        async with asyncio.timeout(step.limit_s) as limit:
            finding = step.work()
            return finding if isinstance(finding, Finding) else await finding
    except GlimpseError as error:
        return failed(error.detail, step.fix)
    except TimeoutError:
        if not limit.expired():
            raise
        return failed(f"It took more than {step.limit_s:g} s.", step.fix)
