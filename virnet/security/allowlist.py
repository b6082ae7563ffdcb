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


def separated(dn: str) -> str:
    """Write a distinguished name, or a pattern of ones, so that what separates its parts stands nowhere else.

    C{CN=x\\,O=ACME} has no C{O}, and must not match C{*,O=ACME}.

    @return: with commas and plus signs in values as C{\\2C} and C{\\2B} (RFC 4514).
    """
    return _ESCAPED.sub(lambda found: _HEXADECIMAL.get(found[0], found[0]), dn)


_ESCAPED = re.compile(r"\\.", re.DOTALL)
_HEXADECIMAL = {r"\,": r"\2C", r"\+": r"\2B"}


def _compile(pattern: str) -> re.Pattern[str]:
    words = {"*": ".*", "?": "."}
    return re.compile("".join(words.get(each) or re.escape(each) for each in pattern), re.DOTALL)
