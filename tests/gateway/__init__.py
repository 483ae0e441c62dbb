"""A stand-in for a Supabase project, for tests only; it is never shipped.

`Gateway` is a strict HTTP server in front of a real PostgreSQL. It speaks the part of three
services that the `supabase` client and our store use: the API gateway (keys), PostgREST (functions,
and tables as far as tests of policies need them) and the Storage API (objects, signed URLs,
resumable uploads by TUS). Every request is a transaction under the role of its token, so grants,
row level security and functions decide as they do on the platform. What it does not know, it
refuses: an unknown path, query parameter, JSON field or preference is an error, where the real
services often ignore it.

`prepare` makes an empty database look like a new project. The statuses and bodies of errors follow
the sources of PostgREST and of the Storage API. Simplified: the S3 backend is a folder; sorting of
listings by other columns than the name, image transformations, copies, moves, signed upload URLs
and all management of buckets are missing; a listing by folders reads all names below its prefix.
"""

from .faults import Faults, Request
from .keys import KeyRules, Keys
from .server import Gateway, prepare

__all__ = ["Faults", "Gateway", "KeyRules", "Keys", "Request", "prepare"]
