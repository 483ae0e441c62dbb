"""What is known of a model and what is a guess, in sentences that a buyer understands.

It knows scores; not how they were found, nor how a page shows sentences.
"""

from __future__ import annotations

from pipeline.types import PhotoScore, Scores

#: PSNR in dB from which a picture of the model can hardly be told from the photo, and from which
#: it shows the same with less detail.
_SAME_DB, _SIMILAR_DB = 30.0, 24.0

#: From which expected likeness on, in words; by pictures of objects whose every side is known.
_WORDS = (
    (0.86, "close to the object from all sides"),
    (0.76, "the right object, with wrong details"),
    (0.65, "a rough idea of it"),
    (0.0, "hardly like it"),
)

#: Engines that are less sure of their own surface than this say that they guess.
_UNSURE = 0.5
#: View agreement below which the views are not of one object.
_CONTRADICTING = 0.6


def in_words(likeness: float) -> str:
    """What an expected likeness, 0..1, means."""
    return next(words for least, words in _WORDS if likeness >= least)


def what_is_known(scores: Scores) -> list[str]:
    """Of the photos and of what they saw; empty without photos."""
    lines = [_of_photo(photo, len(scores.photos)) for photo in scores.photos]
    if scores.seen_share is not None:
        saw = "The photo saw" if len(scores.photos) == 1 else "The photos saw"
        lines.append(f"{saw} {scores.seen_share:.0%} of the model's surface.")
    return lines


def what_is_a_guess(scores: Scores) -> list[str]:
    """Of the rest, how far it may be believed, and what would help."""
    lines = []
    rest = 1.0 if scores.seen_share is None else round(1 - scores.seen_share, 2)
    if scores.seen_share is not None and rest:
        lines.append(f"The other {rest:.0%} of the surface is a guess.")
    if scores.expected_likeness is not None:
        lines.append(
            f"From sides that no photo showed, the model is expected to be "
            f"{in_words(scores.expected_likeness)}: {scores.expected_likeness:.2f}, where 1 is the "
            "object itself. The number was fitted to objects whose every side is known; on others "
            "it was off by .05 as a rule, and by .14 on one of ten."
        )
    sure = scores.evidence.get("engine_confidence")
    if sure:
        lines.append(
            f"The views engine is {'un' if sure < _UNSURE else ''}sure of its surface: {sure:.2f} "
            "of 1."
        )
    if scores.photos and scores.view_agreement < _CONTRADICTING:
        lines.append(
            f"The synthesised views contradict each other (agreement {scores.view_agreement:.2f}): "
            "another seed or views engine may do better."
        )
    if lines and rest:
        lines.append("A photo of another side makes more of it known.")
    return lines


def _of_photo(photo: PhotoScore, count: int) -> str:
    name = "the photo" if count == 1 else f"photo {photo.photo}"
    if photo.psnr >= _SAME_DB:
        verdict = "can hardly be told from it"
    elif photo.psnr >= _SIMILAR_DB:
        verdict = "shows the same with less detail"
    else:
        verdict = "differs from it visibly"
    outline = f"outlines agree to {photo.silhouette_iou:.0%}"
    lpips = "" if photo.lpips is None else f", LPIPS {photo.lpips:.3f}"
    return f"From the camera of {name} the model {verdict}: {photo.psnr:.1f} dB, {outline}{lpips}."
