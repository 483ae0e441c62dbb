"""Lets every character be written to a terminal of any encoding: ticks as letters, others as `?`.

It does not know what is written.
"""

from __future__ import annotations

import codecs
import io
import sys

_ERRORS = "glimpse3d-plain"
_PLAIN = {"✓": "v", "✗": "x", "…": "...", "→": "->"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in text), error.end


def accept_every_character() -> None:
    """From now on standard output and error write what their encoding lacks in other characters.

    That concerns ascii and latin-1 terminals, and names of files that are no text in any encoding.
    """
    codecs.register_error(_ERRORS, _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)
