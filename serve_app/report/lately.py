"""What was made lately of files that never change, up to a weight.

It does not know what is kept, and everything it keeps can be made again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class Lately:
    """Texts by key; the ones that nobody asked for the longest go first.

    Args:
        max_chars: of all texts together.
    """

    def __init__(self, max_chars: int) -> None:
        self._left = max_chars
        self._texts: OrderedDict[Hashable, str] = OrderedDict()

    def get(self, key: Hashable) -> str | None:
        """The text, if it is still there."""
        text = self._texts.get(key)
        if text is not None:
            self._texts.move_to_end(key)
        return text

    def keep(self, key: Hashable, text: str) -> None:
        """Keep it in place of the oldest ones."""
        self._left += len(self._texts.pop(key, ""))
        self._texts[key] = text
        self._left -= len(text)
        while self._left < 0:
            _, oldest = self._texts.popitem(last=False)
            self._left += len(oldest)
