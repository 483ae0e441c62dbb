"""Live models on the way of a report: when they are made, and that they get through."""

import asyncio
import threading

import numpy as np
import pytest

from deployments.streaming import Finished, stream
from pipeline.control import SHOW_PAUSE_S, SHOW_SHARE, Control, Progress, Showing
from pipeline.errors import Cancelled, ModelFailed
from pipeline.lane import Lane
from tests.fakes import some_model


def test_a_live_model_is_due_after_a_pause_that_grows_with_what_it_costs():
    moments = iter([0.0, 0.5, 1.0, SHOW_SHARE * 0.5 + 0.4, SHOW_SHARE * 0.5 + 0.6, 99.0])
    showing, made = Showing(lambda: next(moments)), []

    def make():
        made.append(1)
        return some_model(3)

    assert showing.model(make) is not None
    assert showing.model(make) is None
    assert showing.model(make) is None
    assert showing.model(make) is not None
    assert len(made) == 2, "nobody is asked before it is due"
    assert SHOW_PAUSE_S >= 1


def test_what_cannot_be_shown_yet_does_not_end_the_work(caplog):
    told = []

    def fails():
        raise ModelFailed("Too little can be seen yet.")

    Control(report_to=told.append, showing=Showing()).show(0.5, "half", fails)
    assert told == [Progress(0.5, "half")]
    assert "Too little" in caplog.text

    def is_stopped():
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        Control(showing=Showing()).show(0.5, "half", is_stopped)


def test_who_is_not_watched_makes_none():
    told = []
    Control(report_to=told.append).show(0.5, "half", lambda: pytest.fail("asked"), loss=1.0)
    assert told == [Progress(0.5, "half", {"loss": 1.0})]


def test_a_part_is_watched_like_the_whole_and_hears_the_same_stop():
    told = []
    control = Control(threading.Event(), told.append, Showing())
    part = control.part(0.5, 1.0)
    part.show(0.5, "half", lambda: some_model(3))
    assert told[0].fraction == 0.75
    assert len(told[0].preview) == 3
    control.stop.set()
    with pytest.raises(Cancelled):
        part.show(0.6, "more", lambda: some_model(3))


@pytest.mark.parametrize("shows", [True, False])
async def test_a_lane_says_whether_live_models_are_made(shows):
    lane, told = Lane("test", shows=shows), []

    def work(control):
        control.show(0.5, "half", lambda: some_model(3))

    await lane.run(work, told.append)
    await asyncio.sleep(0)
    assert [progress.preview is not None for progress in told] == [shows]


async def test_a_live_model_is_not_lost_behind_newer_numbers():
    model = some_model(3)

    async def call(report):
        report(Progress(0.1, "shown", preview=model))
        report(Progress(0.2, "newer"))
        return 7

    async def is_wanted():
        return True

    items = [item async for item in stream(call, is_wanted)]
    (progress,) = items[:-1]
    assert (progress.message, items[-1]) == ("newer", Finished(7))
    np.testing.assert_array_equal(progress.preview.means, model.means)
