"""Times the CPU rasteriser against the torch oracle: `python -m bench rasterizer`.

The scene: 20,000 splats in the unit ball, scales exp(N(ln .02, .4)), opacities
sigmoid(1.5 N), seen from 2.7 away at 256 x 256. The C++ rows run beside one torch thread, as in
the product's fit (`pipeline.torch_threads` says why); the oracle gets all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.table import Row
from pipeline import native
from pipeline.geometry.cameras import orbit_cameras
from pipeline.splats.rasterize import AS_VIEWERS, RasterRequest, rasterize
from pipeline.torch_threads import one_torch_thread
from tests.oracles import torch_rasterizer

COUNT, SIZE, DISTANCE = 20_000, 256, 2.7
REPEATS, ORACLE_REPEATS = 15, 3

#: The budget of forward + backward holds for this many threads, whatever the machine has.
BUDGET_THREADS, BUDGET_MS = 2, 25


def _splats() -> list[Tensor]:
    g = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(COUNT, 3, generator=g), dim=-1)
    return [
        directions * torch.rand(COUNT, 1, generator=g) ** (1 / 3),
        torch.randn(COUNT, 4, generator=g),
        torch.exp(0.4 * torch.randn(COUNT, 3, generator=g)) * 0.02,
        torch.sigmoid(1.5 * torch.randn(COUNT, generator=g)),
        torch.rand(COUNT, 3, generator=g),
    ]


def _median_ms(work: Callable[[], Any], repeats: int) -> float:
    work()  # builds the library and fills caches
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def run() -> list[Row]:
    """Median milliseconds of one view, forward and forward with backward, per implementation."""
    splats = _splats()
    camera = orbit_cameras([0.0], [20.0], size=SIZE, radius=DISTANCE)
    viewmats, Ks = torch.from_numpy(camera.viewmats), torch.from_numpy(camera.intrinsics)
    white = torch.ones(1, 3)
    leaves = [value.clone().requires_grad_() for value in splats]

    def fast() -> Tensor:
        request = RasterRequest(*leaves, viewmats, Ks, SIZE, SIZE, backgrounds=white, **AS_VIEWERS)
        image, alpha, _ = rasterize(request)
        return image.mean() + alpha.mean()

    def slow() -> Tensor:
        image, alpha, _ = torch_rasterizer.draw(
            *leaves, viewmats[0], Ks[0], SIZE, SIZE, background=white[0], tiled=True
        )
        return image.mean() + alpha.mean()

    def without_gradients(draw: Callable[[], Tensor]) -> Callable[[], None]:
        def work() -> None:
            with torch.no_grad():
                draw()

        return work

    def with_gradients(draw: Callable[[], Tensor]) -> Callable[[], None]:
        def work() -> None:
            for leaf in leaves:
                leaf.grad = None
            draw().backward()

        return work

    rows: list[Row] = []
    fastest_ms = float("inf")
    for threads in sorted({1, BUDGET_THREADS, native.default_threads()}):
        native.set_threads(threads)
        with one_torch_thread():
            forward_ms = _median_ms(without_gradients(fast), REPEATS)
            both_ms = _median_ms(with_gradients(fast), REPEATS)
        fastest_ms = min(fastest_ms, both_ms)
        budget = BUDGET_MS if threads == BUDGET_THREADS else None
        rows.append(Row(f"C++, {threads} threads, forward", forward_ms, "ms"))
        rows.append(Row(f"C++, {threads} threads, forward + backward", both_ms, "ms", budget))
    native.set_threads(native.default_threads())
    oracle_ms = _median_ms(with_gradients(slow), ORACLE_REPEATS)
    rows.append(Row("torch oracle, tiled, forward + backward", oracle_ms, "ms"))
    rows.append(Row("the oracle takes as many times as long", oracle_ms / fastest_ms, "x"))
    return rows
