"""What a generation in one pass wants of its project, asked before there is a job.

It reads rows; the limits of engines are asked elsewhere.
"""

from __future__ import annotations

from deployments.jobs.generate_journal import no_latent
from deployments.jobs.lineage import generation_of
from deployments.jobs.store import Records
from pipeline.errors import Conflict
from pipeline.flow.artifacts import LATENT_FILE
from pipeline.flow.photo_list import check_quarter_turn
from pipeline.options import FROM_LATENT, GenerateOptions, JobOptions


async def check_one_pass(records: Records, project_id: str, options: JobOptions) -> None:
    """Raises what the job would fail with; what else is wrong the store says when it takes the job.

    Raises:
        NotFound: no such project, or no such version of it.
        InvalidOption: a photo is from farther than a quarter turn from the first.
        Conflict: the version to go on from has kept nothing that the engine can read.
    """
    if not isinstance(options, GenerateOptions) or not options.by_generator:
        return
    if options.from_stage != FROM_LATENT:
        detail = await records.project_detail(project_id)
        if detail.photos:
            check_quarter_turn([photo.direction for photo in detail.photos])
        return
    project = await records.get_project(project_id)
    version = project.current_version if options.version is None else options.version
    if version is None:
        return
    base = generation_of(await records.project_jobs(project_id), version)
    if LATENT_FILE not in base.files("generator"):
        raise Conflict.openly(no_latent(base.version))
    if base.job.options.get("engine") != options.engine:
        raise Conflict.openly(
            f"Version {base.version} was made by the engine {base.job.options.get('engine')!r}, "
            f"and {options.engine!r} cannot read what it kept: generate from the photo."
        )
