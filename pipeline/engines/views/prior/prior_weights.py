"""Where the weights of the learned prior are to be had. It does not know how they are read."""

from __future__ import annotations

from pipeline.weights.catalogue import Carried, WeightFile, Weights

#: Of the published weights; `python -m training.prior.publish` writes it.
_SHA256 = "12c380a29f6316b5eea74b78059d335cb08d3e5eb8db8c20946cd3674ce5ee7f"

PRIOR_WEIGHTS = Weights(
    name="prior",
    files=(WeightFile("prior.npz", _SHA256),),
    licence="MIT",
    size_bytes=7_433_556,
    purpose="Both sides of an object from one photo of it.",
    source=Carried(
        "They belong to this package. Run `make prior`, which trains them again, or choose the "
        "engine that needs none: VIEWS_ENGINE=relief.",
        module="pipeline",
        resource="engines/views/prior/weights/prior.npz",
    ),
)
