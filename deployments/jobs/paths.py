"""Object paths in the buckets.

The first attempt of a project's first generation and refinement uses the documented names; every
other attempt, and every export, gets a folder of its own, so that nothing written is ever
overwritten and a stale attempt cannot damage what a newer one committed. Pictures of models get
one in refinements, too: any job may make those that are missing. Rows hold the paths; nobody
rebuilds them.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.jobs.rows import Job, JobKind


def original_path(project_id: str, photo_id: str = "") -> str:
    """In UPLOADS: a photo as PNG, upright, before background removal; the one that the project
    began with, or another one."""
    return _photo_path(project_id, photo_id, "original.png")


def processed_path(project_id: str, photo_id: str = "") -> str:
    """In PROCESSED: RGBA PNG, of the same photo."""
    return _photo_path(project_id, photo_id, "processed.png")


def _photo_path(project_id: str, photo_id: str, name: str) -> str:
    return "/".join([project_id, *(["photos", photo_id] if photo_id else []), name])


def edit_path(project_id: str, name: str) -> str:
    """In VIEWS: a picture that replaces a view, as RGBA PNG."""
    return f"{_edits(project_id)}{name}.png"


def is_edit(project_id: str, path: str) -> bool:
    """Whether it is one of `edit_path`, in VIEWS."""
    return path.startswith(_edits(project_id))


def _edits(project_id: str) -> str:
    return f"{project_id}/edits/"


@dataclass(frozen=True)
class AttemptPaths:
    """Where one attempt of one job writes.

    Attributes:
        tag: names the attempt's folder; empty for documented names.
        picture_tag: the same for thumbnails, turntables and contact sheets.
        own_tag: names the attempt, whatever it uses.
    """

    project_id: str
    tag: str
    picture_tag: str
    own_tag: str = ""

    @classmethod
    def of(cls, job: Job, fence: int) -> AttemptPaths:
        """The paths of the attempt that holds `fence`."""
        own = f"{job.id[:8]}-{fence}"
        first = job.ordinal == 1 and fence == 1
        return cls(
            job.project_id,
            tag="" if first and job.kind is not JobKind.EXPORT else own,
            picture_tag="" if first and job.kind is JobKind.GENERATE else own,
            own_tag=own,
        )

    def _path(self, tag: str, folder: str, *names: str) -> str:
        return "/".join([self.project_id, folder, *([tag] if tag else []), *names])

    def documented(self, path: str) -> str:
        """The name of one of these paths in every attempt, relative to the project."""
        _project, folder, *rest = path.split("/")
        if rest[0] in (self.tag, self.picture_tag):
            rest = rest[1:]
        return "/".join([folder, *rest])

    def view(self, name: str) -> str:
        """In VIEWS."""
        return self._path(self.tag, "views", name)

    def depth(self, name: str) -> str:
        """In DEPTH."""
        return self._path(self.tag, "depth", name)

    def enhanced(self, iteration: int, view: int, suffix: str) -> str:
        """In ENHANCED: the target (png), or the model before or after the round from the view's
        camera, kept or not (before.png, after.png)."""
        return self._path(self.tag, "enhanced", str(iteration), f"{view:02d}.{suffix}")

    def model(self, version: int) -> str:
        """In MODELS."""
        return self._path(self.tag, "models", f"v{version}.ply")

    def live(self, number: int) -> str:
        """In MODELS: a small model of what a stage has so far; never a documented name."""
        return self._path(self.own_tag, "models", f"live/{number:03d}.splat")

    def latent(self, name: str) -> str:
        """In MODELS: what a generator keeps of its pass."""
        return self._path(self.tag, "models", name)

    def export(self, suffix: str) -> str:
        """In MODELS; `suffix` is a format's."""
        return self._path(self.tag, "models", f"final.{suffix}")

    def picture(self, name: str) -> str:
        """In MODELS: a thumbnail, turntable or contact sheet."""
        return self._path(self.picture_tag, "models", name)
