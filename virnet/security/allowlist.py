"""Lists of names that may enter: SASL users, distinguished names of certificates.

A name is let in if a pattern matches the whole of it. In a pattern C{*} stands for any text and C{?} for
any one character; brackets are brackets. A list without patterns lets nobody in; to let everybody in,
have no list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class AllowList:
    """A list of patterns.

    @ivar patterns: as they were given.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._expressions = [_compile(pattern) for pattern in self.patterns]

    def allows(self, name: str) -> bool:
        """Whether a pattern matches."""
        return any(expression.fullmatch(name) for expression in self._expressions)


def _compile(pattern: str) -> re.Pattern[str]:
    words = {"*": ".*", "?": "."}
    return re.compile("".join(words.get(each) or re.escape(each) for each in pattern), re.DOTALL)
