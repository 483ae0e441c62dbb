"""The check of weights: whether those of the chosen engines lie on this machine whole.

It loads no engine and knows no store.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.engines.engine_spec import EngineSpec
from pipeline.engines.registry import EngineChoice
from pipeline.ports import PortName
from pipeline.weights.catalogue import Carried, Weights
from pipeline.weights.folders import Condition, state_of
from serve_app.cli.doctor.checks import Finding, Status, ok


def check_weights(choice: EngineChoice) -> Finding:
    """A cross where an engine cannot work without what is missing; a warning where it can."""
    specs = [choice.spec(port) for port in PortName]
    wanted = {weights: spec for spec in specs for weights in spec.loaded}
    faults: dict[Weights, str] = {}
    for weights in wanted:
        state = state_of(weights, choice.model_dir)
        if state.condition not in (Condition.READY, Condition.OTHER_REVISION):
            faults[weights] = state.fault
    if not faults:
        return ok(f"the chosen engines have all of theirs: {', '.join(w.name for w in wanted)}")
    is_needed = any(_cannot_do_without(wanted[weights], weights) for weights in faults)
    return Finding(
        Status.FAILED if is_needed else Status.WARNING,
        " ".join(_found(weights, fault) for weights, fault in faults.items()),
        " ".join(_fixes([*faults], is_there_a_folder=choice.model_dir is not None)),
    )


def _cannot_do_without(spec: EngineSpec, weights: Weights) -> bool:
    """Engines called auto take another network's place, scores do without LPIPS."""
    is_carried = isinstance(weights.source, Carried)
    return not (is_carried and (spec.name == "auto" or not weights.needed))


def _found(weights: Weights, fault: str) -> str:
    if isinstance(weights.source, Carried):  # whose fault ends with the way out
        return fault.removesuffix(weights.source.how).strip()
    return f"{weights.name}: {fault}"


def _fixes(lacking: list[Weights], *, is_there_a_folder: bool) -> Iterator[str]:
    yield from (w.source.how for w in lacking if isinstance(w.source, Carried))
    bundles = [w for w in lacking if not isinstance(w.source, Carried)]
    if bundles:
        run = "Run" if is_there_a_folder else "Set MODEL_DIR to a folder and run"
        names = " ".join(w.name for w in bundles)
        allow = "".join(f" --allow {w.name}" for w in bundles if w.by_name)
        yield f"{run} `glimpse3d weights fetch {names}{allow}`."
        yield from (f"{w.name}: {w.terms}" for w in bundles if w.terms)
