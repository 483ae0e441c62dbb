"""What we write we read back: random models of all degrees, within each format's precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.formats.glb_splat import write_glb_splat
from pipeline.formats.ply import write_ply
from pipeline.formats.splat import write_splat
from pipeline.formats.splat_files import load_splats
from pipeline.formats.spz import fitted, write_spz
from pipeline.types import SH_C0, SplatModel
from tests.fakes import some_model

#: Half of a byte's step; an opacity of 0 or 1 comes back half a step beside it.
BYTE = 0.5 / 255
TRIES = settings(max_examples=40, deadline=None)


@st.composite
def models(draw: st.DrawFn) -> SplatModel:
    """Any size and place, needles and discs, invisible and opaque, quaternions of any length."""
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    model = some_model(draw(st.integers(1, 30)), sh_degree=draw(st.integers(0, 3)), seed=seed)
    size = np.float32(10.0 ** draw(st.integers(-3, 3)))
    place = size * rng.uniform(-1, 1, 3).astype(np.float32) * draw(st.sampled_from([0, 3]))
    return replace(
        model,
        means=model.means * size + place,
        quats=model.quats * np.exp(rng.normal(0, 3, (len(model), 1))).astype(np.float32),
        log_scales=model.log_scales * np.float32(draw(st.sampled_from([0.3, 1, 2]))) + np.log(size),
        logit_opacities=model.logit_opacities * np.float32(draw(st.sampled_from([1, 5, 30]))),
        sh=model.sh * np.float32(draw(st.sampled_from([0.2, 1, 3]))),
    )


def degrees_apart(a: SplatModel, b: SplatModel) -> float:
    """The largest angle between the orientations of two splats."""
    turns = [Rotation.from_quat(m.quats[:, [1, 2, 3, 0]].astype(np.float64)) for m in (a, b)]
    return float(np.rad2deg((turns[0].inv() * turns[1]).magnitude().max(initial=0)))


def back_from(data: bytes, name: str, wanted: SplatModel) -> SplatModel:
    read = load_splats(data, name)
    assert read.faults == ()
    assert len(read.model) == len(wanted)
    return read.model


@pytest.mark.parametrize("compact", [False, True])
@TRIES
@given(model=models())
def test_ply_keeps_every_bit_but_of_turned_numbers(model: SplatModel, compact: bool) -> None:
    back = back_from(write_ply(model, compact=compact), "a.ply", model)
    for name in ("means", "log_scales", "logit_opacities"):
        np.testing.assert_array_equal(getattr(back, name), getattr(model, name))
    np.testing.assert_array_equal(back.sh[:, 0], model.sh[:, 0])
    np.testing.assert_allclose(back.sh, model.sh, atol=1e-5)
    assert degrees_apart(back, model) < 1e-3


@TRIES
@given(model=models())
def test_splat_keeps_what_its_bytes_can_say_from_large_to_small(model: SplatModel) -> None:
    back = back_from(write_splat(model), "a.splat", model)
    # The order that the format prescribes, by size and opacity.
    weights = model.scales.prod(axis=1, dtype=np.float64) * model.opacities
    order = np.argsort(-weights, kind="stable")
    model = model.select(order)
    np.testing.assert_array_equal(back.means, model.means)
    np.testing.assert_allclose(back.log_scales, model.log_scales, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(back.opacities, model.opacities, atol=BYTE + 1e-6)
    rgb, wanted = (np.clip(0.5 + SH_C0 * m.sh[:, 0], 0, 1) for m in (back, model))
    np.testing.assert_allclose(rgb, wanted, atol=BYTE + 1e-6)
    assert back.sh_degree == 0
    # Four components in steps of 1/128, of which the last, 1, is cut to 127/128.
    assert degrees_apart(back, model) < 1.2


@pytest.mark.parametrize("compact", [False, True])
@TRIES
@given(model=models())
def test_glb_splat_keeps_floats_and_compact_steps(model: SplatModel, compact: bool) -> None:
    back = back_from(write_glb_splat(model, compact=compact), "a.splat.glb", model)
    np.testing.assert_array_equal(back.means, model.means)
    stepped = compact and model.scales.max() <= 1
    # Compact: at least one step, so that a splat stays a splat.
    step = 1.01 / 65535 if stepped else 0
    np.testing.assert_allclose(back.scales, model.scales, rtol=1e-5, atol=step)
    np.testing.assert_allclose(back.opacities, model.opacities, atol=1e-6)
    np.testing.assert_allclose(back.sh, model.sh, atol=1e-5)
    assert degrees_apart(back, model) < (0.01 if compact else 1e-3)


@TRIES
@given(model=models())
def test_spz_keeps_what_its_steps_can_say(model: SplatModel) -> None:
    # What the format cannot say is refused, see test_read_back.
    model = replace(model, log_scales=np.clip(model.log_scales, -9.9, 5.9))
    model, notes = fitted(model)
    back = back_from(write_spz(model), "a.spz", model)
    assert notes == () or "Left out" in notes[0]
    # 24 bits reach the farthest splat, and no finer than 2^-12 but where all are near.
    reach = float(np.abs(model.means).max())
    np.testing.assert_allclose(back.means, model.means, atol=max(0.51 / 4096, reach * 2**-22))
    np.testing.assert_allclose(back.log_scales, model.log_scales, atol=0.51 / 16)
    np.testing.assert_allclose(back.opacities, model.opacities, atol=BYTE + 1e-6)
    first = np.clip(model.sh[:, 0], -10 / 3, 10 / 3)
    np.testing.assert_allclose(back.sh[:, 0], first, atol=0.51 / 255 / 0.15)
    # Harmonics turn between the frames, and what a turn of clipped ones is, only their box says.
    inside = np.abs(model.sh[:, 1:]).max(initial=0) < 0.5
    if inside:
        np.testing.assert_allclose(back.sh[:, 1:], model.sh[:, 1:], atol=0.2)
    assert back.sh_degree == model.sh_degree
    assert degrees_apart(back, model) < 0.3
