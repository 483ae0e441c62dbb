"""Which replica of a model gets a call: the one with the fewest, asked anew every time.

A call holds a lane for seconds or minutes, and calls behind it wait although another lane may be
idle. Serve's own router compares two replicas that it draws, by what it remembers of them from its
own calls; every driver and ingress has a router. It does not know what is called.
"""

from __future__ import annotations

import random

from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica


class LeastLoaded(FIFOMixin, RequestRouter):
    """Named in `request_router_config` of a deployment."""

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """All of them: Serve takes the one with the shortest queue, the first of several.

        What is remembered of their queues is forgotten, so that Serve asks. That costs
        milliseconds.
        """
        del pending_request
        for replica in candidate_replicas:
            self.replica_queue_len_cache.invalidate_key(replica.replica_id)
        return [random.sample(candidate_replicas, len(candidate_replicas))]
