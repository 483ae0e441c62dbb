"""A model thinned out for a look, and a fit that is watched."""

import numpy as np

from pipeline.splats.small_model import thinned
from tests.fakes import some_model


def test_a_small_model_stays_as_it_is():
    model = some_model(50)
    assert thinned(model, 50) is model


def test_a_large_one_keeps_its_ends_and_covers_as_much():
    model = some_model(4000)
    small = thinned(model, 1000)
    assert len(small) == 1000
    np.testing.assert_array_equal(small.means[[0, -1]], model.means[[0, -1]])
    area = np.exp(2 * model.log_scales).sum()
    assert 0.8 < np.exp(2 * small.log_scales).sum() / area < 1.25
    np.testing.assert_array_equal(thinned(model, 1000).means, small.means)


def test_splats_that_stand_for_very_many_do_not_grow_without_end():
    model = some_model(10_000)
    small = thinned(model, 10)
    assert small.log_scales.max() <= model.log_scales.max() + np.log(4) + 1e-6
