"""Where the weights of the learned prior are to be had. It does not know how they are read."""

from __future__ import annotations

from pipeline.weights.catalogue import Carried, WeightFile, Weights

#: Of the published weights; `python -m training.prior.publish` writes it.
_SHA256 = "ded568329da6b8d14999a672f5905d328d44617e2a8ce30a6814a40cb45bbab4"

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
