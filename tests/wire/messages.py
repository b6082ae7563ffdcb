"""Messages for the tests of the core: made by hand, and made at random."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

from virnet.limits import MESSAGE_MIN

Header = tuple[int, int, int, int, int, int]
"""Program, version, procedure, type, serial, status."""


def raw(length: int, header: Header, payload: bytes = b"") -> bytes:
    """A message with any length word, true or not."""
    return struct.pack(">IIIiiIi", length, *header) + payload


def message(header: Header, payload: bytes = b"") -> bytes:
    """A message with the right length word."""
    return raw(MESSAGE_MIN + len(payload), header, payload)


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes into pieces at the given places."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


PLACES = st.lists(st.integers(0, 1 << 20), max_size=12)
"""Where to cut a byte stream of any size."""
