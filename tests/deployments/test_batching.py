import asyncio

import pytest
from pydantic import ValidationError

from deployments.batching import Batched, BatchSettings
from pipeline.errors import Cancelled, DeviceLost, InvalidInput, ModelFailed

SETTINGS = BatchSettings(max_batch_size=4, batch_wait_timeout_s=0.2)

pytestmark = pytest.mark.usefixtures("replica_context")


class Squares:
    """Squares numbers; negative ones are a user's fault, 13 breaks the whole batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.batched = Batched(self.work, "squaring")
        self.batched.configure(SETTINGS)

    async def work(self, values):
        self.batches.append(list(values))
        if 13 in values:
            raise RuntimeError("thirteen")
        if any(value < 0 for value in values):
            raise InvalidInput("negative")
        if 99 in values:
            return [0]
        return [value * value for value in values]


async def outcomes(squares: Squares, *values: int):
    return await asyncio.gather(*map(squares.batched, values), return_exceptions=True)


async def test_calls_that_wait_together_become_one():
    squares = Squares()
    assert await outcomes(squares, 1, 2, 3, 4) == [1, 4, 9, 16]
    assert squares.batches == [[1, 2, 3, 4]]


async def test_no_batch_is_larger_than_asked_for():
    squares = Squares()
    assert await outcomes(squares, *range(6)) == [0, 1, 4, 9, 16, 25]
    assert [len(batch) for batch in squares.batches] == [4, 2]


async def test_one_bad_input_fails_alone_and_keeps_its_error():
    squares = Squares()
    one, two, bad, three = await outcomes(squares, 1, 2, -1, 3)
    assert (one, two, three) == (1, 4, 9)
    assert isinstance(bad, InvalidInput)
    one, broken = await outcomes(squares, 1, 13)
    assert one == 1
    assert isinstance(broken, ModelFailed)
    assert "squaring raised RuntimeError: thirteen" in str(broken)


async def test_a_lost_device_fails_a_batch_without_asking_it_again():
    calls = []

    async def lost(values):
        calls.append(list(values))
        raise DeviceLost("an illegal memory access")

    batched = Batched(lost, "work")
    batched.configure(SETTINGS)
    found = await asyncio.gather(batched(1), batched(2), return_exceptions=True)
    assert [type(error) for error in found] == [DeviceLost, DeviceLost]
    assert calls == [[1, 2]]


async def test_a_wrong_number_of_results_is_an_error_for_all():
    for error in await outcomes(Squares(), 1, 99):
        assert isinstance(error, ModelFailed)
        assert "1 results for 2 inputs" in str(error)


async def test_cancelled_work_does_not_leave_callers_waiting():
    async def cancelled(_values):
        raise Cancelled("stopped")

    batched = Batched(cancelled, "work")
    with pytest.raises(Cancelled):
        await asyncio.wait_for(batched(1), 10)


async def test_a_caller_that_leaves_does_not_disturb_the_others():
    gate, squares = asyncio.Event(), Squares()

    async def slow(values):
        await gate.wait()
        return [value * value for value in values]

    batched = Batched(slow, "work")
    batched.configure(SETTINGS)
    leaving, staying = (asyncio.create_task(batched(value)) for value in (2, 3))
    await asyncio.sleep(0.3)
    leaving.cancel()
    gate.set()
    assert await asyncio.wait_for(staying, 10) == 9
    assert await squares.batched(5) == 25


async def test_two_instances_do_not_share_a_queue():
    one, other = Squares(), Squares()
    assert await asyncio.gather(one.batched(2), other.batched(3)) == [4, 9]
    assert (one.batches, other.batches) == ([[2]], [[3]])


@pytest.mark.parametrize("wrong", [{"max_batch_size": 0}, {"batch_wait_timeout_s": -1}, {"max": 2}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError):
        BatchSettings.model_validate(wrong)
