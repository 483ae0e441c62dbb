"""What is known of an engine before it is loaded, and what it is loaded with.

It imports no engine: specs are read by whoever wants to know what there is. How an engine is added
is in `docs/engines.md`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import InvalidOption
from pipeline.options import JobOptions
from pipeline.ports import PortName
from pipeline.weights.catalogue import Carried, Weights

if TYPE_CHECKING:
    from pipeline.device import Device

T = TypeVar("T")

#: What CUDA itself takes in every process; `pipeline.device.CONTEXT_BYTES`.
CONTEXT_GIB = 600 / 1024


@dataclass(frozen=True)
class Demand:
    """Memory of a GPU that one replica of an engine takes, GiB.

    Attributes:
        weights: in bf16 or fp16; counted from the networks
            (`tests/pipeline/engines/test_demands.py`).
        working: most that activations may take beside them, a budget which `python -m bench.gpu`
            compares with what is taken. Of networks it is for 16 views at once; where less is
            there they take fewer.
    """

    weights: float
    working: float

    @property
    def total(self) -> float:
        """What the card must have free for it."""
        return self.weights + self.working + CONTEXT_GIB


@dataclass(frozen=True)
class Setup:
    """What an engine is loaded with.

    Attributes:
        engine: its name, for messages.
        model_dir: where weights lie; None looks only into installed packages.
        device: of engines with a `Demand`; the others compute on the CPU.
        threads: of native code in this process.
        options: keyword arguments that a user chose.
    """

    engine: str
    model_dir: Path | None
    device: Device
    threads: int
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Options that were taken out of `options`; they are the engine's all the same.
    taken: tuple[str, ...] = ()

    def take(self, name: str, default: Any) -> tuple[Any, Setup]:
        """An option that decides what is made, or its default; and the setup without it."""
        rest = dict(self.options)
        value = rest.pop(name, default)
        return value, replace(self, options=rest, taken=(*self.taken, name))

    def with_options(self, make: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """`make(*args, **kwargs, **options)`.

        Raises:
            InvalidOption: `make` takes no such option, or not from outside; the text lists those
                that it takes.
        """
        parameters = inspect.signature(make).parameters.values()
        free = [p.name for p in parameters if p.name not in kwargs][len(args) :]
        unknown = sorted(set(self.options) - set(free))
        if unknown:
            known = sorted({*free, *self.taken})
            raise InvalidOption(
                f"The {self.engine} engine has no option {unknown[0]!r}; it has {known}."
            )
        return make(*args, **kwargs, **self.options)


def fault_of(check: Callable[[], object]) -> tuple[str, ...]:
    """What `check` refuses: the text of its InvalidOption, or nothing."""
    try:
        check()
    except InvalidOption as error:
        return (error.detail,)
    return ()


def _takes_all(_options: JobOptions) -> tuple[str, ...]:
    """Of an engine whose limits are those of the options themselves."""
    return ()


@dataclass(frozen=True)
class EngineSpec:
    """One engine of one port.

    Attributes:
        name: what it is chosen by, unique in its port.
        load: makes the engine, which has the port's protocol in `pipeline.ports`. What it needs it
            imports itself, so that a spec costs nothing. Raises Unavailable where something is
            missing.
        presets: whole sets of engines that it belongs to: "embedded" needs no GPU, "gpu" wants one.
        native: whether it calls the native library.
        demand: of an engine that computes on a GPU where there is one.
        options: names of what users may choose of it (`engine_options`).
        weights: what it loads, or may load.
        packages: distributions whose version can change what it makes, for manifests.
        check: sentences on what the engine cannot do of what a job asks for; none where it can do
            all. It is asked before a job is accepted, where no engine is loaded.
    """

    port: PortName
    name: str
    load: Callable[[Setup], Any]
    presets: tuple[str, ...] = ()
    native: bool = False
    demand: Demand | None = None
    options: tuple[str, ...] = ()
    weights: tuple[Weights, ...] = ()
    packages: tuple[str, ...] = ()
    check: Callable[[JobOptions], tuple[str, ...]] = _takes_all

    @property
    def on_device(self) -> bool:
        """Whether it computes on the chosen device; the others use the CPU wherever they run."""
        return self.demand is not None

    @property
    def commercial(self) -> bool:
        """Whether a business may use it with the weights that it loads by itself."""
        return all(weights.commercial for weights in self.loaded)

    @property
    def loaded(self) -> tuple[Weights, ...]:
        """What it loads where no option chooses other weights."""
        kept = tuple(w for w in self.weights if w.needed or isinstance(w.source, Carried))
        return kept or self.weights

    @property
    def shown(self) -> tuple[str, ...]:
        """Lines that the terms of its weights want shown wherever it is used."""
        return tuple(dict.fromkeys(w.shown for w in self.loaded if w.shown))
