"""Compiled XDR codecs: a schema node becomes straight-line Python functions, once, on first use.

They are several times as fast as an interpreter because they know the type beforehand and keep no path. When
one fails, L{virnet.xdr.reference} does the work again and says what is wrong and where; so only
L{XDRError<virnet.errors.XDRError>} leaves a codec.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Protocol

from virnet.xdr import reference
from virnet.xdr.decoder import Decoder
from virnet.xdr.encoder import Encoder
from virnet.xdr.schema import Node


class Decode(Protocol):
    """Decode from an offset; what follows the value is not looked at.

    @return: the value and the offset behind it.
    @raise XDRError: too few bytes, or no encoding of the type.
    """

    def __call__(self, data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[Any, int]: ...


class Codec:
    """Both directions of one type. C{encode} and C{decode} are compiled apart, each when first asked for,
    and are plain functions: bind them where they are called often."""

    def __init__(self, node: Node) -> None:
        self.node = node

    @cached_property
    def encode(self) -> Callable[[Any], bytes]:
        """Encode a value.

        @raise XDRError: the value does not fit the type.
        """
        explain = partial(reference.encode, self.node)
        function: Callable[[Any], bytes] = Encoder().compiled(self.node, explain)
        return function

    @cached_property
    def decode(self) -> Decode:
        """Decode from bytes, which are copied only where they become a value; see L{Decode}."""
        explain = partial(reference.decode, self.node)
        function: Decode = Decoder().compiled(self.node, explain)
        return function
