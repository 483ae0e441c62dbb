"""What the Supabase client raises, as errors of our tree; total over all it can raise.

It does not know who called: `bucket` and `path` are for the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from postgrest import APIError
from storage3.exceptions import StorageApiError
from storage3.utils import StorageException

from pipeline.errors import (
    Conflict,
    GlimpseError,
    InvalidInput,
    NotFound,
    Unavailable,
)
from serve_app.stores.records import error_for_sqlstate

_SET_KEY = "Set SUPABASE_SERVICE_ROLE_KEY to the secret key of this project."
_PASTE = "Run the SQL that `glimpse3d supabase sql` prints."

#: Storage's words, then its statuses.
_STORAGE_STATES: dict[str, tuple[type[GlimpseError], str]] = {
    "InvalidKey": (InvalidInput, "Storage takes no such path"),
    "404": (NotFound, "There is no such file"),
    "409": (Conflict, "Storage holds another file in its place"),
    "413": (InvalidInput, "A file is larger than the bucket or the project allows"),
    "415": (
        InvalidInput,
        f"The bucket takes no files of this type; {_PASTE[0].lower()}{_PASTE[1:-1]}",
    ),
}

_KEY_REFUSED = "Supabase refuses the service's key."


@contextmanager
def translated(bucket: str = "", path: str = "") -> Iterator[None]:
    """Raise errors of our tree and nothing else from the block."""
    try:
        yield
    except APIError as error:
        raise _of_postgrest(error) from error
    except StorageApiError as error:
        raise _of_storage(error, bucket, path) from error
    except httpx.TimeoutException as error:
        raise Unavailable.openly("Supabase did not answer in time.") from error
    except httpx.TransportError as error:
        away = "Supabase cannot be reached"
        said = error or type(error).__name__
        raise Unavailable(f"{away}: {said}", public=f"{away}.") from error
    except (httpx.HTTPError, httpx.InvalidURL, StorageException, ValueError, KeyError) as error:
        # Not JSON, or without what the protocol promises.
        raise GlimpseError(f"Supabase gave an answer that cannot be read: {error!r}") from error


def _of_postgrest(error: APIError) -> GlimpseError:
    code, message = error.code or "", error.message or repr(error)
    if code.startswith("PGRST3"):  # the token: wrong, expired, not allowed
        return Unavailable(f"Supabase refuses the key ({message}). {_SET_KEY}", public=_KEY_REFUSED)
    if code == "42501":
        return Unavailable(f"The key may not do this ({message}). {_SET_KEY}", public=_KEY_REFUSED)
    if code.isdigit() and len(code) == 3:  # an HTTP status: the body was not PostgREST's
        status = int(code)
        if status == 429 or status >= 500:
            return Unavailable(
                f"Supabase does not answer now (HTTP {status}, {message}).",
                public=f"Supabase does not answer now (HTTP {status}).",
            )
        return GlimpseError(f"Supabase answered with HTTP {status}: {message}")
    return error_for_sqlstate(code, message, error.details)


def _of_storage(error: StorageApiError, bucket: str, path: str) -> GlimpseError:
    """Storage says most with HTTP 400 and its own status and word in the body."""
    try:
        status = int(error.status)
    except ValueError:
        status = 500
    return _storage_error(status, str(error.code), error.message, bucket, path)


def storage_error(response: httpx.Response, bucket: str, path: str) -> GlimpseError:
    """For an answer of the resumable uploads: status and text say it, or a body as Storage's."""
    status, word, message = response.status_code, "", response.text.strip()
    try:
        body = response.json()
        status = int(body["statusCode"])
        word, message = str(body["error"]), str(body["message"])
    except (ValueError, KeyError, TypeError):
        if "bucket not found" in message.lower():
            word = "Bucket not found"
    return _storage_error(status, word, message, bucket, path)


def _storage_error(status: int, word: str, message: str, bucket: str, path: str) -> GlimpseError:
    where = f"{path} in {bucket}" if path else bucket or "the list of buckets"
    if word == "InternalError" and status == 404:  # not in Storage's words
        return Unavailable(f"There is no Storage at SUPABASE_URL ({message}).")
    if word in ("Bucket not found", "NoSuchBucket"):
        # Storage says so, too, to who downloads with a key that has expired.
        return Unavailable.openly(
            f"There is no bucket {bucket}, or the key may not see it. {_PASTE}"
        )
    if status in (401, 403) or word == "InvalidJWT":
        said = f"Supabase refuses the key for {where} ({message}). {_SET_KEY}"
        return Unavailable(said, public=_KEY_REFUSED)
    if status in (423, 429) or status >= 500:
        return Unavailable(
            f"Storage does not answer now (HTTP {status}, {message}).",
            public=f"Storage does not answer now (HTTP {status}).",
        )
    kind, sentence = _STORAGE_STATES.get(word) or _STORAGE_STATES.get(
        str(status), (GlimpseError, f"Storage failed (HTTP {status}, {word})")
    )
    public = f"{sentence}." if kind.for_clients else ""
    return kind(f"{sentence}: {where} ({message}).", public=public)
