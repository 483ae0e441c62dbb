"""When a refinement round may not be kept, whatever it scores, and when no round can help.

It knows scores and how far views were believed; not how a round is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.journals import IterationOutcome
from pipeline.types import Scores

#: A view with less trust than this at the end of a round was not believed. Where that is so of more
#: than this share of the views, they are not of one object: what the rest says of each other's
#: sides is no better founded. Of 16 views of an object 2 that show another one are sat out.
_BELIEVED, _MOST_NOT_BELIEVED = 0.5, 1 / 3


@dataclass(frozen=True)
class _Guard:
    """A number that a candidate may not make much worse, whatever its agreement with the views.

    Attributes:
        allowed: how much worse it may be, added to (or taken from) the number before...
        factor: ... which is multiplied by this first.
        higher_is_better: of the number.
    """

    name: str
    sentence: str
    allowed: float
    factor: float = 1.0
    higher_is_better: bool = False

    def broken(self, before: float, after: float) -> bool:
        # Written so that NaN breaks it.
        if self.higher_is_better:
            return not after >= before - self.allowed
        return not after <= before * self.factor + self.allowed


#: The small constants keep noise on tiny numbers from breaking a guard.
_GUARDS = (
    _Guard("photo_psnr", "the photo's own view", 0.2, higher_is_better=True),
    _Guard("photo_lpips", "the photo's own view, as LPIPS sees it", 0.01),
    # As much as the rule is off. It compares objects: of one patterned ball, 40 % more contrast of
    # its detail (unsharp mask, 1.5 px) lowers it by .008, and a blur raises it.
    _Guard("expected_likeness", "what is expected of unseen sides", 0.05, higher_is_better=True),
    _Guard("low_pass_psnr", "the colours of held-out views", 0.3, higher_is_better=True),
    _Guard("consistency", "the agreement between views", 0.0005, 1.05),
    # Of a scale on which 1 is another shape. A coarse printed box has .0526; refined, with 8.9 dB
    # more on views that nobody fitted, it has .0565.
    _Guard("depth_error", "the depth of held-out views", 0.005, 1.05),
)


#: Guards that compare with the held-out views. Where these are drawn from the model that is refined
#: it agrees with them to the last bit, and every change is one for the worse.
_OF_HELD_OUT = ("low_pass_psnr", "depth_error")

#: There a candidate may not move farther from them than this, dB: half of the fidelity. One that
#: is farther already, such as a model that was fitted to them, may not move farther still.
_LEAST_DRAWN_PSNR = 25.0


def agreement(scores: Scores, *, drawn: bool) -> float:
    """What a refinement raises, 0..1.

    The agreement with held-out views; where these are drawn from the model itself, how well it
    shows the photos, which alone are known then: their mean PSNR on the scale of fidelity in
    `pipeline.splats.scores.view_agreement`.
    """
    if not drawn or not scores.photos:
        return scores.view_agreement
    mean_db = sum(min(photo.psnr, 100.0) for photo in scores.photos) / len(scores.photos)
    return 1 / (1 + math.exp((25 - mean_db) / 5))


def broken_guards(before: Scores, after: Scores, *, drawn: bool = False) -> tuple[str, ...]:
    """A sentence for each number that a candidate made much worse.

    Args:
        drawn: the held-out views are pictures of a model that a generator made.
    """
    sentences = []
    least = min(_LEAST_DRAWN_PSNR, before.psnr)
    if drawn and not after.psnr >= least:
        sentences.append(
            f"psnr (the sides that no photo showed): the model moved to {after.psnr:.4g} dB from "
            f"what it was, and at least {least:.4g} are to stay."
        )
    for guard in _GUARDS:
        if drawn and guard.name in _OF_HELD_OUT:
            continue
        was, now = (_guarded(guard.name, scores) for scores in (before, after))
        if was is None:
            continue
        # What could be measured of the model and cannot of the candidate has got worse.
        if now is None:
            sentences.append(
                f"{guard.name} ({guard.sentence}): {was:.4g} can no longer be measured."
            )
        elif guard.broken(was, now):
            sentences.append(f"{guard.name} ({guard.sentence}): {was:.4g} became {now:.4g}.")
    return tuple(sentences)


def _guarded(name: str, scores: Scores) -> float | None:
    if name in ("consistency", "expected_likeness"):
        found: float | None = getattr(scores, name)
        return found
    return scores.extra.get(name)


def disagreement(outcome: IterationOutcome) -> str | None:
    """A sentence where most of what a round was shown cannot be of one object, else None."""
    weights = outcome.view_weights.values()
    doubted = sum(weight < _BELIEVED for weight in weights)
    if doubted <= _MOST_NOT_BELIEVED * len(weights):
        return None
    return (
        f"Refinement cannot help: {doubted} of {len(weights)} views contradict the others or the "
        "photo, so the model stays as it was. Generate again with another seed or views engine, "
        "strike out the views that are wrong, or add a photo of another side."
    )
