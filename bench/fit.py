"""Fits known objects to 16 views and scores held-out ones: `python -m bench.fit`.

16 views of the rig at 256 px, first splats from exact depth, `FitOptions()` as they come; the
PSNR is the mean over eight views that were not fitted.
"""

from __future__ import annotations

import time

import numpy as np

from pipeline.cameras import held_out_cameras, rig_cameras
from pipeline.control import Control
from pipeline.splats.fit import FitOptions, Targets, fit
from pipeline.splats.initialise import splats_from_views
from pipeline.splats.render import render_model
from pipeline.types import SplatModel, ViewSet
from tests.oracles.objects import bumpy_sphere, photograph, torus

#: Share of the final number of splats to start with; the fit places the others.
START_SHARE = 0.6


def psnr(model: SplatModel, views: ViewSet) -> float:
    drawn = render_model(model, views.cameras).images
    errors = ((drawn - views.images / 255.0) ** 2).mean((1, 2, 3))
    return float((-10 * np.log10(errors)).mean())


def run() -> list[dict[str, float | int | str]]:
    """Seconds and PSNR (dB) per object."""
    rows: list[dict[str, float | int | str]] = []
    options = FitOptions()
    for name, thing in (("torus", torus()), ("bumpy sphere", bumpy_sphere())):
        views, depths = photograph(thing, rig_cameras())
        held_out, _ = photograph(thing, held_out_cameras())
        start = time.perf_counter()
        initial = splats_from_views(
            views, depths, count=int(START_SHARE * options.num_gaussians), seed=0
        )
        ready = time.perf_counter()
        result = fit(initial, Targets.of_views(views), options, Control())
        rows.append(
            {
                "object": name,
                "splats": len(result.model),
                "iterations": result.iterations,
                "initialise_s": ready - start,
                "fit_s": time.perf_counter() - ready,
                "psnr_before_db": psnr(initial, held_out),
                "psnr_db": psnr(result.model, held_out),
                "psnr_of_fitted_views_db": psnr(result.model, views),
            }
        )
    return rows


def main() -> None:
    for row in run():
        print(
            f"{row['object']:<13} {row['splats']} splats, {row['iterations']} steps: "
            f"initialise {row['initialise_s']:.1f} s, fit {row['fit_s']:.1f} s, "
            f"held-out PSNR {row['psnr_before_db']:.1f} -> {row['psnr_db']:.1f} dB "
            f"(fitted views {row['psnr_of_fitted_views_db']:.1f})"
        )


if __name__ == "__main__":
    main()
