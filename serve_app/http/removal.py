"""Taking a project away at once: its rows, then every file of it.

The mark for deletion outlives both, so whatever is interrupted here the janitor finishes.
"""

from __future__ import annotations

from deployments.jobs.janitor import delete_files
from deployments.jobs.store import Store


async def remove_project(store: Store, project_id: str) -> bool:
    """Remove a project that is marked for deletion.

    Returns:
        False, and nothing is done, while a job of it holds a lease.
    """
    # Rows first: no answer names a file that is gone.
    if not await store.records.purge_project(project_id):
        return False
    await delete_files(store, project_id)
    return True
