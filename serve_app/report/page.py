"""A report as one HTML page without scripts that fetches nothing.

It decides what is shown and in which words; `templates/` says how it looks, and escapes whatever
comes from a report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.types import CameraEstimate
from serve_app.report.assemble import (
    IterationReport,
    JobReport,
    ModelReport,
    Picture,
    RefinementReport,
    Report,
    StageReport,
)
from serve_app.report.known import what_is_a_guess, what_is_known
from serve_app.report.plots import Plot, Share, plot_over_iterations, stacked_bar

#: Longest sides in pixels of pictures of the whole object, and of targets.
_FIGURE, _STRIP = 384, 192
#: Width of the contact sheet, which has eight pictures in a row.
_SHEET = 1100

#: Of many versions the first and so many of the newest are shown, and of how many iterations the
#: targets.
_SHOWN_VERSIONS, _SHOWN_STRIPS = 11, 2


@dataclass(frozen=True)
class _Score:
    """One of the scores; `name` is its field in `Scores`, `spec` how it is written."""

    name: str
    label: str
    spec: str
    unit: str = ""
    lower_is_better: bool = False

    @property
    def heading(self) -> str:
        return f"{self.label} {self.unit}"


_SCORES = (
    _Score("view_agreement", "View agreement", ".4f"),
    _Score("psnr", "PSNR", ".2f", "dB"),
    _Score("ssim", "SSIM", ".4f"),
    _Score("lpips", "LPIPS", ".4f", lower_is_better=True),
    _Score("silhouette_iou", "Silhouette IoU", ".4f"),
    _Score("consistency", "Inconsistency", ".4f", lower_is_better=True),
    _Score("floaters", "Floaters", ".4f", lower_is_better=True),
)

_STOPS = {
    "converged": "the newest accepted iteration gained less than 1%",
    "max_iterations": "all iterations that were asked for ran",
    "regressed": "two iterations in a row were not kept",
    "views_disagree": "the views contradict each other, so no iteration can help",
    "cancelled": "somebody stopped the job",
    "failed": "the job failed",
}

#: What of an environment is shown.
_ENVIRONMENT = ("product", "python", "platform", "gpu", "devices", "packages")


def wanted_pictures(report: Report) -> dict[Picture, int]:
    """Every picture of the page and its longest side in pixels."""
    sizes = {report.project.cutout: _FIGURE}
    if report.sheet is not None:
        sizes[report.sheet] = _SHEET
    sizes |= {photo.cutout: _FIGURE for photo in report.photos}
    sizes |= {m.thumbnail: _FIGURE for m in _shown_models(report) if m.thumbnail is not None}
    for iteration in _shown_strips(report):
        for target in iteration.targets:
            for picture in (target.target, target.before, target.after):
                if picture is not None:
                    sizes[picture] = _STRIP
    return sizes


def render_html(report: Report, pictures: Mapping[Picture, str]) -> str:
    """The whole page.

    Args:
        pictures: data URIs; a picture that is missing is drawn as such.
    """
    refinement = report.refinement
    used = [i for i in refinement.iterations if i.parameters] if refinement is not None else []
    environments = [
        {name: said for name, said in job.environment.items() if said and name in _ENVIRONMENT}
        for job in report.jobs
        if job.environment
    ]
    return _TEMPLATES.get_template("report.html").render(
        report=report,
        uris=pictures,
        models=_shown_models(report),
        strips=_shown_strips(report),
        newest_iteration=used[-1] if used else None,
        environment=environments[-1] if environments else None,
    )


def _shown_models(report: Report) -> Sequence[ModelReport]:
    return (*report.models[:1], *report.models[1:][-_SHOWN_VERSIONS:])


def _shown_strips(report: Report) -> Sequence[IterationReport]:
    found = report.refinement
    if found is None:
        return ()
    return [iteration for iteration in found.iterations if iteration.targets][-_SHOWN_STRIPS:]


# Filters of the templates.


def _plot(refinement: RefinementReport, name: str) -> Plot:
    """A score over the iterations."""
    return plot_over_iterations(
        [(i.iteration, getattr(i.scores, name), i.accepted) for i in refinement.iterations]
    )


def _measured(refinement: RefinementReport) -> list[_Score]:
    """The scores that any iteration has."""
    return [
        score
        for score in _SCORES
        if any(getattr(i.scores, score.name) is not None for i in refinement.iterations)
    ]


def _remarks(refinement: RefinementReport) -> list[str]:
    """What guards and notes say, in order."""
    lines = []
    for i in refinement.iterations:
        lines += [f"Iteration {i.iteration}, guard: {guard}" for guard in i.guards]
        if i.note and i.iteration > 0:
            lines.append(f"Iteration {i.iteration}: {i.note}")
    return lines


@dataclass(frozen=True)
class _Timing:
    """Seconds and memory of a job.

    Attributes:
        shares: of stages that follow each other.
        containing: a stage that ran others, which are counted by themselves.
        peaks: bytes by process, without those that nobody measured.
    """

    shares: Sequence[Share]
    containing: Sequence[StageReport]
    peaks: Mapping[str, int]


def _timing(job: JobReport) -> _Timing:
    # The seconds of the chosen candidate are those of its stages, too.
    counted = [s for s in job.stages if s.stage != "candidates" or len(job.stages) == 1]
    peaks: dict[str, int] = {}
    for stage in job.stages:
        measured = {"driver": stage.peak_memory_bytes or 0, **stage.replica_peak_memory_bytes}
        peaks |= {name: max(peaks.get(name, 0), peak) for name, peak in measured.items()}
    return _Timing(
        stacked_bar([(stage.stage, stage.seconds) for stage in counted]),
        [stage for stage in job.stages if stage not in counted],
        {name: peak for name, peak in peaks.items() if peak},
    )


def _camera(camera: CameraEstimate) -> dict[str, str]:
    """What the view engine found of it, and how sure it was."""
    error = camera.elevation_error_deg
    sure = "as given" if error is None else f"± {error:.0f}"
    return {
        "elevation": f"{camera.elevation_deg:z.1f} degrees {sure}",
        "focal length": f"{camera.focal:.2f} widths of the cut-out ± {camera.focal_error:.0%}",
    }


def _plain(value: object) -> str:
    """A value of JSON for people."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    return json.dumps(value, default=str)


def _number(value: float | None, spec: str) -> str:
    return "\N{EN DASH}" if value is None else format(value, spec)


_TEMPLATES = Environment(
    loader=PackageLoader("serve_app.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals |= {"scores": _SCORES, "stops": _STOPS}
_TEMPLATES.filters |= {
    "camera": _camera,
    "measured": _measured,
    "megabytes": lambda size: f"{size / 1e6:.2f}",
    "minute": lambda at: f"{at:%Y-%m-%d %H:%M} UTC",
    "number": _number,
    "parameters": lambda job: {f"{p} engine": e for p, e in job.engines.items() if e} | job.options,
    # Of a bar's length: what is beyond 0..1 is cut off.
    "percent": lambda share: f"{100 * min(max(share, 0.0), 1.0):.0f}",
    "plain": _plain,
    "plot": _plot,
    "remarks": _remarks,
    "timing": _timing,
    "known": what_is_known,
    "guessed": what_is_a_guess,
    "by_number": lambda named: sorted(named.items(), key=lambda item: int(item[0])),
}
