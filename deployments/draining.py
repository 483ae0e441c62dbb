"""Whether Serve is about to stop the replica this code runs in.

Serve waits until a replica that it stops has no requests left, and kills it in the end; it has no
way to tell user code that it began to wait (Ray 2.60). A driver's request lasts as long as a job,
so it looks for itself: the replica's actor instance is reached through two private names, which
`tests/cluster/test_faults.py` watches over.
"""

from __future__ import annotations

from typing import Any

import ray


def is_draining() -> bool:
    """True once Serve has asked this replica to stop; False outside of replicas."""
    worker: Any = ray._private.worker.global_worker
    actor = worker.actors.get(worker.actor_id) if worker.connected else None
    replica = getattr(actor, "_replica_impl", None)
    return bool(getattr(replica, "_shutting_down", False))
