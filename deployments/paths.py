"""Object paths in the buckets.

The first attempt of a project's first generation and refinement uses the documented names; every
other attempt, and every export, gets a folder of its own, so that nothing written is ever
overwritten and a stale attempt cannot damage what a newer one committed. Rows hold the paths;
nobody rebuilds them.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.store import Job, JobKind

__all__ = ["AttemptPaths", "original_path", "processed_path", "sibling"]


def original_path(project_id: str) -> str:
    """In UPLOADS: the photo as PNG, upright, before background removal."""
    return f"{project_id}/original.png"


def processed_path(project_id: str) -> str:
    """In PROCESSED: RGBA PNG."""
    return f"{project_id}/processed.png"


def sibling(path: str, name: str) -> str:
    """The path of `name` in the folder of `path`."""
    return f"{path.rpartition('/')[0]}/{name}"


@dataclass(frozen=True)
class AttemptPaths:
    """Where one attempt of one job writes. `tag` is empty for documented names."""

    project_id: str
    tag: str

    @classmethod
    def of(cls, job: Job, fence: int) -> AttemptPaths:
        """The paths of the attempt that holds `fence`."""
        documented = job.ordinal == 1 and fence == 1 and job.kind is not JobKind.EXPORT
        return cls(job.project_id, "" if documented else f"{job.id[:8]}-{fence}")

    def _folder(self, *parts: str) -> str:
        return "/".join(
            [self.project_id, *parts[:1], *([self.tag] if self.tag else []), *parts[1:]]
        )

    def view(self, name: str) -> str:
        """In VIEWS."""
        return f"{self._folder('views')}/{name}"

    def depth(self, name: str) -> str:
        """In DEPTH."""
        return f"{self._folder('depth')}/{name}"

    def model(self, version: int) -> str:
        """In MODELS."""
        return f"{self._folder('models')}/v{version}.ply"

    def enhanced(self, iteration: int, view: int) -> str:
        """In ENHANCED."""
        return f"{self._folder('enhanced', str(iteration))}/{view:02d}.png"

    def export(self, format_name: str) -> str:
        """In MODELS."""
        return f"{self._folder('models')}/final.{format_name}"
