"""The records port over PostgREST: the same SQL functions, called by name."""

from __future__ import annotations

import json
import math
from typing import Any, ClassVar

from supabase import AsyncClient

from pipeline.errors import InvalidInput
from serve_app.stores.records import CallRecords
from serve_app.stores.supabase.supabase_errors import translated


class SupabaseRecords(CallRecords):
    """`deployments.jobs.store.Records` on a Supabase project. Waiting polls."""

    #: A request each; events wait no longer than this.
    poll_s: ClassVar[float] = 1.0

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def call(self, function: str, **arguments: Any) -> Any:
        """One request."""
        # JSON has no infinities; PostgreSQL reads a number from its text, too.
        arguments = {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in arguments.items()
        }
        try:
            # As httpx is going to, whose error would look like those of an answer.
            json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError) as error:  # NaN, bytes, half of a surrogate pair
            takes = "The records take plain JSON values"
            raise InvalidInput(f"{takes}: {error}", public=f"{takes}.") from error
        with translated():
            return (await self._client.rpc(function, arguments).execute()).data
