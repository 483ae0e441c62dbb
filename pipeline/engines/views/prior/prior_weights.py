"""Where the weights of the learned prior are to be had. It does not know how they are read."""

from __future__ import annotations

from pipeline.weights.catalogue import Carried, WeightFile, Weights

#: Of the published weights; `python -m training.prior.publish` writes it.
_SHA256 = "41db27ee82d0e41e9fb5d2662711e901ca2c7b349ebd22a05e2d652252767559"

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
