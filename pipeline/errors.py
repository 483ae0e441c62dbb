"""Every error the product raises on purpose, in one tree.

It does not know HTTP or Ray: `deployments.handles` maps Ray's errors into it and
`serve_app.http.problems` maps it to HTTP answers. `deployments.jobs.job_errors` adds those of jobs.

    GlimpseError
     ├── InvalidInput            the caller must change something
     │    ├── InvalidImage       the photo cannot be used, and why
     │    ├── InvalidOption      an option is unknown or out of range
     │    └── InvalidModelFile   a .ply or .splat that is damaged or foreign
     ├── NotFound                no such project, job or blob
     ├── Conflict                right request, wrong moment
     │    └── NotGeneratedYet    refine or export before a model exists
     ├── Unavailable             try again later: store, replica or weights are away
     ├── Cancelled               somebody asked the job to stop
     ├── OutOfMemory             the device was too small for the work
     └── ModelFailed             an engine raised, hung or returned nonsense
          ├── ReplicaDied        the process that ran the engine is gone
          ├── DeviceLost         the GPU failed; its process can use it no more
          └── TimedOut           the engine ran for longer than any honest call
"""

from __future__ import annotations

from typing import ClassVar, Self


class GlimpseError(Exception):
    """Root of the tree. `str(error)` is a sentence that who runs the service can act on.

    It may name files, addresses and what a library said, and goes to logs and terminals. What
    clients read, in answers, jobs, events, messages and reports, is `public` and nothing else.

    Attributes:
        detail: the sentence.
    """

    #: Stable snake_case name, the `code` of a problem document and of a failed job.
    code: ClassVar[str] = "internal_error"
    #: Whether the same request may succeed when repeated unchanged.
    retryable: ClassVar[bool] = False
    #: Whether it ends all work of the attempt, also where the failure of a part could be borne.
    ends_attempt: ClassVar[bool] = False
    #: Whether `detail` is about the request and its project alone, so that clients read it as it
    #: is. Where it is not, they read `closed_sentence`, or what was written for them.
    for_clients: ClassVar[bool] = False
    closed_sentence: ClassVar[str] = (
        "Something went wrong on our side; the service's log has the reason."
    )

    def __init__(self, detail: str, *, public: str = "") -> None:
        """`public`: what clients read in place of `detail`; it names nothing of the machine."""
        super().__init__(detail)
        self.detail = detail
        self._public = public

    @classmethod
    def openly(cls, detail: str) -> Self:
        """An error of a class that is closed, with a sentence that clients may read as it is."""
        return cls(detail, public=detail)

    @property
    def public(self) -> str:
        """The sentence for clients: without paths, addresses, traces or words of a library."""
        return self._public or (self.detail if self.for_clients else self.closed_sentence)


class InvalidInput(GlimpseError):
    """The caller must change the request; raised before any work is done."""

    code = "invalid_input"
    for_clients = True


class InvalidImage(InvalidInput):
    """The photo cannot be used: not an image, truncated, animated, too small, too large..."""

    code = "invalid_image"


class InvalidOption(InvalidInput):
    """An option is unknown, of the wrong type or out of range; the text names it."""

    code = "invalid_option"


class InvalidModelFile(InvalidInput):
    """A splat file is damaged or of another kind; the text says what is missing."""

    code = "invalid_model_file"


class NotFound(GlimpseError):
    """No such project, job or blob."""

    code = "not_found"
    for_clients = True


class Conflict(GlimpseError):
    """The request is right but the project is in another state."""

    code = "conflict"
    for_clients = True


class NotGeneratedYet(Conflict):
    """Refine or export was asked for before a model exists."""

    code = "not_generated_yet"


class Unavailable(GlimpseError):
    """A store, a replica or a weight is not there now; nothing was lost."""

    code = "unavailable"
    retryable = True
    closed_sentence = "A part of the service is not there now; try again later."


class Cancelled(GlimpseError):
    """The work was stopped because somebody asked for it."""

    code = "cancelled"
    ends_attempt = True
    for_clients = True


class OutOfMemory(GlimpseError):
    """The device or the host was too small for the work."""

    code = "out_of_memory"
    retryable = True
    closed_sentence = "The machine has not enough memory for this."


class ModelFailed(GlimpseError):
    """An engine raised, or returned something that cannot be used."""

    code = "model_failed"
    closed_sentence = "A model failed; the service's log has the reason."


class ReplicaDied(ModelFailed):
    """The process that ran the engine ended before it answered."""

    code = "replica_died"
    retryable = True
    closed_sentence = "The process that ran a model ended before it answered."


class DeviceLost(ModelFailed):
    """The GPU failed under the engine: no further call of that process can use it (an illegal
    address, a failed assertion or launch, an ECC error). Another process may."""

    code = "device_lost"
    retryable = True
    closed_sentence = "The GPU failed; another process goes on."


class TimedOut(ModelFailed):
    """An engine did not come to an end within the time that a call may take."""

    code = "timed_out"
    retryable = True
    closed_sentence = "A model ran for longer than it may."
