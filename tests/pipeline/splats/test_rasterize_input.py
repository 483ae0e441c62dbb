"""What the rasteriser refuses, and how it says so."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.errors import InvalidInput, Unavailable
from tests.oracles.scenes import NAMES, rasterize, scene


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_nan_or_infinite_input_is_an_error_that_names_it(name: str, value: float) -> None:
    s = scene(10)
    arguments = dict(zip(NAMES, (*s.splats, s.viewmats, s.Ks), strict=True))
    arguments[name] = arguments[name].clone()
    arguments[name].view(-1)[0] = value
    with pytest.raises(InvalidInput, match=f"^{name} contains NaN or infinity"):
        rasterize(**arguments, width=32, height=32)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shape_is_an_error_that_names_it(name: str) -> None:
    s = scene(10, cameras=2)
    arguments = dict(zip(NAMES, (*s.splats, s.viewmats, s.Ks), strict=True))
    # The lengths of means and viewmats define N and C; their other axes can be wrong.
    lengths = name in ("means", "viewmats")
    arguments[name] = arguments[name][:, :2] if lengths else arguments[name][:-1]
    with pytest.raises(InvalidInput, match=f"^{name} must be a tensor"):
        rasterize(**arguments, width=32, height=32)


def test_wrong_dtype_is_an_error_that_names_it() -> None:
    s = scene(10)
    means, *rest = s.splats
    with pytest.raises(InvalidInput, match=r"means must be float32, got torch\.float64"):
        rasterize(means.double(), *rest, s.viewmats, s.Ks, 32, 32)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"width": 0}, "width"),
        ({"height": 1.5}, "height"),
        ({"render_mode": "XYZ"}, "render_mode"),
        ({"near_plane": 0.0}, "near_plane"),
        ({"eps2d": math.nan}, "eps2d"),
        ({"sh_degree": 4}, "sh_degree"),
        ({"backgrounds": torch.zeros(1, 4)}, "backgrounds"),
    ],
)
def test_wrong_option_is_an_error_that_names_it(option: dict[str, object], text: str) -> None:
    s = scene(10)
    arguments = {"width": 32, "height": 32} | option
    with pytest.raises(InvalidInput, match=text):
        rasterize(*s.splats, s.viewmats, s.Ks, **arguments)


def test_other_devices_are_unavailable() -> None:
    s = scene(4)
    meta = [value.to("meta") for value in (*s.splats, s.viewmats, s.Ks)]
    with pytest.raises(Unavailable, match="no rasteriser for meta tensors"):
        rasterize(*meta, 32, 32)
