"""Questions that meet are answered once, and never with an old answer."""

import asyncio

import pytest

from pipeline.errors import NotFound
from serve_app.http.single_flight import SingleFlight


class Counter:
    """Answers with what was true when the call began."""

    def __init__(self) -> None:
        self.truth, self.calls, self.gate = 0, 0, asyncio.Event()

    async def read(self) -> int:
        self.calls += 1
        seen = self.truth
        await self.gate.wait()
        return seen


async def test_those_who_ask_together_share_one_call():
    flight, counter = SingleFlight(), Counter()
    tasks = [asyncio.create_task(flight.call("key", counter.read)) for _ in range(10)]
    await asyncio.sleep(0)
    counter.gate.set()
    assert await asyncio.gather(*tasks) == [0] * 10
    assert counter.calls == 1


async def test_who_asks_later_never_gets_what_was_read_before():
    flight, counter = SingleFlight(), Counter()
    early = asyncio.create_task(flight.call("key", counter.read))
    await asyncio.sleep(0.01)
    counter.truth = 1
    late = [asyncio.create_task(flight.call("key", counter.read)) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert counter.calls == 1, "one at a time"
    counter.gate.set()
    assert await early == 0
    assert await asyncio.gather(*late) == [1] * 5
    assert counter.calls == 2


async def test_different_questions_do_not_wait_for_each_other():
    flight, counter = SingleFlight(), Counter()
    held = asyncio.create_task(flight.call("a", counter.read))

    async def other() -> str:
        return "other"

    assert await flight.call("b", other) == "other"
    counter.gate.set()
    await held
    assert (flight._running, flight._next) == ({}, {})


async def test_an_error_reaches_everybody_and_is_not_kept():
    flight, fails = SingleFlight(), True

    async def read() -> str:
        if fails:
            raise NotFound("gone")
        return "here"

    answers = await asyncio.gather(
        *(flight.call("key", read) for _ in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [NotFound] * 3
    fails = False
    assert await flight.call("key", read) == "here"


async def test_who_goes_away_does_not_take_the_answer_from_the_others():
    flight, counter = SingleFlight(), Counter()
    first = asyncio.create_task(flight.call("key", counter.read))
    second = asyncio.create_task(flight.call("key", counter.read))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    counter.gate.set()
    assert await second == 0
