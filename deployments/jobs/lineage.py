"""Where a model version comes from: its parents, and the generation whose views and depth it has.

It knows the rows of jobs; not their files, nor what a job computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from deployments.jobs.commits import ModelRow, StageCommit
from deployments.jobs.rows import Job, JobKind, ProjectJob
from pipeline.errors import NotFound


@dataclass(frozen=True)
class Generation:
    """A generation that made a version, with what it committed.

    Attributes:
        model: the row of that version.
    """

    model: ModelRow
    made: ProjectJob

    @property
    def version(self) -> int:
        return self.model.version

    @property
    def job(self) -> Job:
        return self.made.job

    @cached_property
    def stages(self) -> Mapping[str, StageCommit]:
        """What it committed, by stage."""
        return {commit.stage: commit for commit in self.made.commits}

    def files(self, *stages: str) -> dict[str, str]:
        """Name to path of the files of stages, its own and those that it took over; of equal names
        that of the later stage."""
        found: dict[str, str] = {}
        for stage in stages:
            if stage in self.stages:
                found |= self.stages[stage].detail.get("files", {})
        return found


def generation_of(jobs: Sequence[ProjectJob], version: int) -> Generation:
    """The generation that a version comes from: the one that made it, or the one that its
    refinements began with.

    Raises:
        NotFound: there is no such version, or none of its parents was generated.
    """
    made = {row.version: (row, one) for one in jobs for c in one.commits for row in c.models}
    at: int | None = version
    while at is not None and at in made:
        row, one = made[at]
        if one.job.kind is JobKind.GENERATE:
            return Generation(row, one)
        at = row.parent
    raise NotFound(f"The project has no generation that version {version} comes from.")
