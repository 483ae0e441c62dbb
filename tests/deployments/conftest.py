"""What Serve sets up in a replica and deployment classes rely on."""

import gc
from collections.abc import AsyncIterator

import pytest
from ray.serve import context
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve._private.config import DeploymentConfig
from ray.serve.schema import ReplicaRank


@pytest.fixture
async def replica_context() -> AsyncIterator[None]:
    """`serve.batch` counts batches by replica; Ray's own tests set the context like this.

    What batches must also be gone before the event loop is: without one, a queue that is collected
    makes another and leaves it open.
    """
    before = context._INTERNAL_REPLICA_CONTEXT
    context._set_internal_replica_context(
        replica_id=ReplicaID("replica", DeploymentID("Models", "test")),
        servable_object=lambda: None,
        _deployment_config=DeploymentConfig(max_ongoing_requests=64),
        rank=ReplicaRank(rank=0, node_rank=0, local_rank=0),
        world_size=1,
    )
    yield
    context._INTERNAL_REPLICA_CONTEXT = before
    gc.collect()
