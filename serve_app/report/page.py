"""A report as one HTML page without scripts that asks nobody for anything.

It knows the report and the pictures it is given; whatever came from a user is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pipeline.types import Scores, ViewScore
from serve_app.report.assemble import (
    IterationReport,
    JobReport,
    ModelReport,
    Picture,
    RefinementReport,
    Report,
    TargetReport,
)
from serve_app.report.plots import Point, plot_over_iterations, stacked_bar
from serve_app.report.style import STYLE

__all__ = ["render_html", "wanted_pictures"]

#: Longest sides in pixels of pictures of the whole object, and of targets.
_FIGURE, _STRIP = 384, 192

#: Of many versions the first and so many of the newest are shown, and of how many iterations the
#: targets.
_SHOWN_VERSIONS, _SHOWN_STRIPS = 11, 2

#: Name, unit, digits and whether higher is better.
_SCORES: tuple[tuple[str, str, str, int, bool], ...] = (
    ("overall_quality", "Quality", "", 4, True),
    ("psnr", "PSNR", "dB", 2, True),
    ("ssim", "SSIM", "", 4, True),
    ("lpips", "LPIPS", "", 4, False),
    ("silhouette_iou", "Silhouette IoU", "", 4, True),
    ("consistency", "Inconsistency", "", 4, False),
    ("floaters", "Floaters", "", 4, False),
)

_STOPS = {
    "converged": "the newest accepted iteration gained less than 1%",
    "max_iterations": "all iterations that were asked for ran",
    "regressed": "two iterations in a row were not kept",
    "cancelled": "somebody stopped the job",
    "failed": "the job failed",
}

Pictures = Mapping[Picture, str]


def wanted_pictures(report: Report) -> dict[Picture, int]:
    """Every picture of the page and its longest side in pixels."""
    sizes = {report.project.cutout: _FIGURE}
    sizes |= {m.thumbnail: _FIGURE for m in _shown_models(report) if m.thumbnail is not None}
    for iteration in _shown_strips(report):
        for target in iteration.targets:
            for picture in (target.target, target.before, target.after):
                if picture is not None:
                    sizes[picture] = _STRIP
    return sizes


def render_html(report: Report, pictures: Pictures) -> str:
    """The whole page."""
    name = f"Glimpse3D report of project {report.project.id}"
    body = "".join(
        [
            _header(report),
            _tiles(report),
            _section("Photo and models", _figures(report, pictures)),
            *(_section(*_refinement(found)) for found in reversed(report.refinements)),
            _section(f"Views of version {report.version}", _views(report.model)),
            *(
                _section(*_strips(iteration, pictures))
                for iteration in reversed(_shown_strips(report))
            ),
            _section("Candidates", _ranking(report)),
            _section("Time and memory", "".join(_timing(job) for job in report.jobs)),
            _section("Engines and parameters", _parameters(report)),
            _section("Files", _files(report)),
            _section("Notes", _list(report.notes)),
        ]
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>"
    )


def _shown_models(report: Report) -> Sequence[ModelReport]:
    models = report.models
    if len(models) <= _SHOWN_VERSIONS + 1:
        return models
    return (models[0], *models[-_SHOWN_VERSIONS:])


def _shown_strips(report: Report) -> Sequence[IterationReport]:
    found = report.refinement
    if found is None:
        return ()
    return [iteration for iteration in found.iterations if iteration.targets][-_SHOWN_STRIPS:]


# Pieces. Each answers HTML; an empty one leaves its section out.


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _header(report: Report) -> str:
    project = report.project
    version = "no model yet" if report.version is None else f"model version {report.version}"
    error = f'<p class="error">{escape(project.error)}</p>' if project.error else ""
    return (
        f'<header><p class="brand">Glimpse3D quality report</p><h1>{escape(version)}</h1>'
        f"<p>Project <code>{escape(project.id)}</code>, {escape(project.status)}. "
        f"Uploaded {project.created_at:%Y-%m-%d %H:%M} UTC, background by "
        f"{escape(project.background_engine)}. Report of "
        f"{report.generated_at:%Y-%m-%d %H:%M} UTC.</p>{error}</header>"
    )


def _tiles(report: Report) -> str:
    model = report.model
    if model is None:
        return '<p class="lead">Nothing has been generated yet.</p>'
    tiles = [
        _tile(label, f"{value:.{digits}f}", unit, "" if higher else "lower is better")
        for name, label, unit, digits, higher in _SCORES
        if model.scores is not None and (value := getattr(model.scores, name)) is not None
    ]
    tiles.append(_tile("Splats", f"{model.splat_count:,}", "", ""))
    tiles.append(_tile("File", f"{model.file_size_bytes / 1e6:.2f}", "MB", ""))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tile(label: str, value: str, unit: str, hint: str) -> str:
    small = f"<small>{escape(unit)}</small>" if unit else ""
    below = f"<em>{escape(hint)}</em>" if hint else ""
    return f"<div><span>{escape(label)}</span><b>{escape(value)}{small}</b>{below}</div>"


def _figure(picture: Picture | None, pictures: Pictures, caption: str, class_: str = "") -> str:
    uri = None if picture is None else pictures.get(picture)
    # Not `caption` again as the alternative text: a screen reader would say it twice.
    image = '<i class="none">no picture</i>' if uri is None else f'<img alt="" src="{uri}">'
    return f'<figure class="{class_}">{image}<figcaption>{caption}</figcaption></figure>'


def _figures(report: Report, pictures: Pictures) -> str:
    figures = [_figure(report.project.cutout, pictures, "<b>Photo</b> cut out")]
    for model in _shown_models(report):
        quality = f"<br>quality {model.scores.overall_quality:.4f}" if model.scores else ""
        caption = f"<b>Version {model.version}</b> {escape(model.origin)}{quality}"
        chosen = "chosen" if model.version == report.version else ""
        figures.append(_figure(model.thumbnail, pictures, caption, chosen))
    hidden = len(report.models) - len(_shown_models(report))
    told = f"<p>{hidden} versions between are left out.</p>" if hidden else ""
    return f'<div class="figures">{"".join(figures)}</div>{told}'


def _refinement(found: RefinementReport) -> tuple[str, str]:
    began = "" if found.start_version is None else f" of version {found.start_version}"
    title = f"Refinement{began}"
    if found.stop_reason is None:
        told = f"It is {escape(found.state)}."
    else:
        why = _STOPS.get(found.stop_reason, "")
        told = f"Stopped: <b>{escape(found.stop_reason)}</b>{': ' if why else ''}{why}."
    if not found.iterations:
        return title, f"<p>{told}</p>"
    return title, f"<p>{told}</p>{_plots(found)}{_iterations(found)}{_guards(found)}"


def _plots(found: RefinementReport) -> str:
    def points(value: Callable[[Scores], float]) -> list[Point]:
        return [Point(i.iteration, value(i.scores), i.accepted) for i in found.iterations]

    quality = plot_over_iterations("Quality", "0 to 1", points(lambda s: s.overall_quality), 4)
    psnr = plot_over_iterations("PSNR", "dB", points(lambda s: s.psnr), 2)
    legend = (
        '<p class="legend"><i class="dot"></i> accepted <i class="x">&times;</i> rolled back</p>'
    )
    return f'<div class="plots">{quality}{psnr}</div>{legend}'


def _iterations(found: RefinementReport) -> str:
    shown = [
        column
        for column in _SCORES
        if any(getattr(i.scores, column[0]) is not None for i in found.iterations)
    ]
    head = ["", "", *(f"{label} {unit}" for _, label, unit, _, _ in shown)]
    head += ["gain", "strength", "seconds", "enhancer"]
    rows = []
    for i in found.iterations:
        mark = '<b class="yes">accepted</b>' if i.accepted else '<b class="back">rolled back</b>'
        version = "" if i.model_version is None else f" v{i.model_version}"
        cells = [f"{i.iteration}", ("start" if i.iteration == 0 else mark) + version]
        cells += [_number(getattr(i.scores, name), digits) for name, _, _, digits, _ in shown]
        cells += ["" if i.gain is None else f"{i.gain:+.2%}"]
        # Iteration 0 only measures.
        made = i.iteration > 0
        cells += [f"{i.strength:.3g}" if made else "", f"{i.seconds:.1f}", escape(i.engine)]
        rows.append(cells)
    return _table(head, rows)


def _guards(found: RefinementReport) -> str:
    told = []
    for i in found.iterations:
        told += [f"Iteration {i.iteration}, guard: {guard}" for guard in i.guards]
        if i.note and i.iteration > 0:
            told.append(f"Iteration {i.iteration}: {i.note}")
    return _list(told)


def _views(model: ModelReport | None) -> str:
    scores = None if model is None else model.scores
    if scores is None or not scores.views:
        return ""
    rows = [
        [
            f"{view.view}",
            _number(view.psnr, 2),
            _number(view.ssim, 4),
            _number(view.lpips, 4),
            _number(view.silhouette_iou, 4),
        ]
        for view in _by_psnr(scores.views)
    ]
    table = _table(["view", "PSNR dB", "SSIM", "LPIPS", "silhouette IoU"], rows)
    extra = "".join(
        f"<dt>{escape(name)}</dt><dd>{value:.4g}</dd>" for name, value in scores.extra.items()
    )
    told = "<p>No optimiser saw these views; the worst one first.</p>"
    return told + table + (f'<h3>Guards</h3><dl class="facts">{extra}</dl>' if extra else "")


def _by_psnr(views: Iterable[ViewScore]) -> list[ViewScore]:
    return sorted(views, key=lambda view: view.psnr)


def _strips(iteration: IterationReport, pictures: Pictures) -> tuple[str, str]:
    kept = "accepted" if iteration.accepted else "rolled back"
    cards = "".join(_card(target, pictures) for target in iteration.targets)
    trust = "".join(
        f'<li><span>{escape(view)}</span><i><u style="height:{100 * _share(weight):.0f}%"></u></i>'
        f"{weight:.2f}</li>"
        for view, weight in sorted(iteration.view_weights.items(), key=lambda item: int(item[0]))
    )
    weights = f'<h3>Trust in the original views</h3><ol class="trust">{trust}</ol>' if trust else ""
    return (
        f"Targets of iteration {iteration.iteration}, {kept}",
        f'<div class="cards">{cards}</div>{weights}',
    )


def _card(target: TargetReport, pictures: Pictures) -> str:
    shown = "".join(
        _figure(picture, pictures, caption)
        for picture, caption in (
            (target.before, "before"),
            (target.target, "target"),
            (target.after, "after"),
        )
    )
    trust = ""
    if target.weight is not None:
        width = 100 * _share(target.weight)
        trust = (
            f'<span class="weight"><i style="width:{width:.0f}%"></i></span>'
            f"<small>trust {target.weight:.2f}</small>"
        )
    return f'<div class="card"><p><b>View {target.view}</b>{trust}</p><div>{shown}</div></div>'


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _ranking(report: Report) -> str:
    rows = [
        [
            f"{place}",
            f"{candidate.seed}" + (' <b class="yes">chosen</b>' if candidate.chosen else ""),
            _number(candidate.overall_quality, 4),
            _number(candidate.psnr, 2),
            _number(candidate.ssim, 4),
            _number(candidate.lpips, 4),
            escape(candidate.note),
        ]
        for place, candidate in enumerate(report.ranking, start=1)
    ]
    return _table(["", "seed", "quality", "PSNR dB", "SSIM", "LPIPS", ""], rows) if rows else ""


def _timing(job: JobReport) -> str:
    # The seconds of the chosen candidate are those of its stages, too.
    counted = [s for s in job.stages if s.stage != "candidates" or len(job.stages) == 1]
    bar = stacked_bar([(stage.stage, stage.seconds) for stage in counted]) if counted else ""
    legend = "".join(
        f'<li><i class="c{i % 8}"></i>{escape(stage.stage)} <b>{stage.seconds:.1f} s</b></li>'
        for i, stage in enumerate(counted)
    )
    legend += "".join(
        f"<li>{escape(stage.stage)}, all together <b>{stage.seconds:.1f} s</b></li>"
        for stage in job.stages
        if stage not in counted
    )
    peaks = {"driver": max((stage.peak_memory_bytes or 0 for stage in job.stages), default=0)}
    for stage in job.stages:
        for name, peak in stage.replica_peak_memory_bytes.items():
            peaks[name] = max(peaks.get(name, 0), peak)
    memory = ", ".join(f"{escape(n)} {peak / 1e6:,.0f} MB" for n, peak in peaks.items() if peak)
    wall = "" if job.seconds is None else f", {job.seconds:.1f} s in all"
    attempts = "" if job.attempt <= 1 else f", {job.attempt} attempts"
    error = ""
    if job.error is not None:
        error = f'<p class="error">{escape(job.error.stage)}: {escape(job.error.detail)}</p>'
    told = f'<p class="quiet">Peak memory of the processes: {memory}.</p>' if memory else ""
    return (
        f'<div class="job"><h3>{escape(job.kind)} <small>{escape(job.state)}{wall}{attempts}'
        f'</small></h3>{bar}<ul class="legend">{legend}</ul>{told}{error}</div>'
    )


def _parameters(report: Report) -> str:
    parts = []
    for job in report.jobs:
        engines = {f"{port} engine": name for port, name in job.engines.items() if name}
        parts.append(f"<div><h3>{escape(job.kind)}</h3>{_facts({**engines, **job.options})}</div>")
    if parts:
        parts = [f'<div class="params">{"".join(parts)}</div>']
    found = report.refinement
    used = [i for i in found.iterations if i.parameters] if found is not None else []
    if used:
        newest = used[-1]
        parts.append(f"<h3>iteration {newest.iteration}</h3>{_facts(newest.parameters)}")
    environments = [job.environment for job in report.jobs if job.environment]
    if environments:
        newest_environment = {
            name: value
            for name, value in environments[-1].items()
            if name in ("product", "python", "platform", "packages")
        }
        parts.append(f"<h3>environment of the newest job</h3>{_facts(newest_environment)}")
    return "".join(parts)


def _facts(values: Mapping[str, Any]) -> str:
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_plain(value))}</dd>"
        for name, value in values.items()
        if value is not None
    )
    return f'<dl class="facts">{items}</dl>'


def _plain(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    return json.dumps(value, default=str)


def _files(report: Report) -> str:
    rows = [
        [
            f"version {model.version}",
            "ply",
            f"{model.splat_count:,} splats",
            f"{model.file_size_bytes / 1e6:.2f}",
            escape(f"{model.origin}, {model.engine}"),
        ]
        for model in report.models
    ]
    rows += [
        [
            f"version {row.model_version}",
            escape(row.format),
            escape(", ".join(f"{count:,} {name}" for name, count in row.contents.items())),
            f"{row.file_size_bytes / 1e6:.2f}",
            "export, optimised" if row.optimize else "export",
        ]
        for row in report.exports
    ]
    return _table(["model", "format", "holds", "MB", "made by"], rows) if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`head` is escaped here; the cells are HTML."""
    columns = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="notes">{items}</ul>' if items else ""


def _number(value: float | None, digits: int) -> str:
    return "&ndash;" if value is None else f"{value:.{digits}f}"
