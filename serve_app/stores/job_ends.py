"""Asks for all who wait for jobs in one statement, whether theirs have ended.

It does not know how the question travels, nor how anybody learns that it is time to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from deployments.jobs.rows import Job
from pipeline.errors import NotFound

#: Of these jobs those that have ended, and None for those that are gone.
ReadEnded = Callable[[Sequence[str]], Awaitable[Mapping[str, Job | None]]]


class JobEnds:
    """Questions that come while one is under way share the next one.

    So no answer is older than its question, and one statement is under way at a time, however
    many wait.
    """

    def __init__(self, read: ReadEnded) -> None:
        self._read = read
        self._next: dict[str, asyncio.Future[Job | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, job_id: str) -> Job | None:
        """The job if it has ended, else None. Raises NotFound, and what reading raises."""
        answer = self._next.get(job_id)
        if answer is None:
            answer = self._next[job_id] = asyncio.get_running_loop().create_future()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._answer(), name="ends of jobs")
        # Others may wait for the same answer.
        return await asyncio.shield(answer)

    async def _answer(self) -> None:
        while self._next:
            asked, self._next = self._next, {}
            try:
                ended = await self._read(list(asked))
            except Exception as error:
                for answer in asked.values():
                    answer.set_exception(error)
                    answer.exception()  # seen, though nobody may wait for it any more
                continue
            except BaseException:
                for answer in asked.values():
                    answer.cancel()
                raise
            for job_id, answer in asked.items():
                if job_id in ended and ended[job_id] is None:
                    answer.set_exception(NotFound(f"There is no job {job_id}."))
                    answer.exception()
                else:
                    answer.set_result(ended.get(job_id))
