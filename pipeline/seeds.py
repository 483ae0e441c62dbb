"""Seeds: which there may be, one that nobody chose, and others that derive from one.

It does not know what is drawn with them.
"""

from __future__ import annotations

import hashlib
import secrets

#: Seeds are 0 <= seed < SEED_LIMIT: they fit a signed 64-bit column and a JSON number.
SEED_LIMIT = 2**31
#: An engine that ranks what it guesses takes `seed % count` for the place of the one to show. Of
#: any count up to six this step is a multiple: a seed nobody chose gives the likeliest guess.
SEED_STEP = 60


def random_seed() -> int:
    """A seed nobody chose, a multiple of `SEED_STEP`."""
    return secrets.randbelow(SEED_LIMIT // SEED_STEP) * SEED_STEP


def derived_seed(seed: int, *parts: int) -> int:
    """Another seed for each part of a work, the same ones on every machine.

    Args:
        parts: which part: a round, a view.
    """
    text = ":".join(str(number) for number in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % SEED_LIMIT
