"""Compiled codecs against the reference, over random types and values."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.xdr.shapes import GaveUp, fastDecode, fastEncode, nodes, samples
from virnet.errors import XDRError
from virnet.xdr import Node, reference

steady = settings(
    deadline=None,
    max_examples=120,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)

#: What callers pass by mistake.
junk: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=17)
    | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


def spoil(data: st.DataObject, value: Any) -> Any:
    """A value with one thing in it, at any depth, replaced or gone or double."""
    if isinstance(value, list | tuple) and value and data.draw(st.integers(0, 5)):
        where = data.draw(st.integers(0, len(value) - 1))
        instead = [spoil(data, value[where])] * data.draw(st.sampled_from([1, 1, 1, 0, 2]))
        parts = [*value[:where], *instead, *value[where + 1 :]]
        return parts if isinstance(value, list) else tuple(parts)
    return data.draw(junk)


class CompiledAgainstReference(SynchronousTestCase):
    @given(samples())
    @steady
    def test_encodeTheSame(self, sample: tuple[Node, Any]) -> None:
        node, value = sample
        self.assertEqual(fastEncode(node)(value), reference.encode(node, value))

    @given(samples(), st.binary(max_size=5), st.binary(max_size=5))
    @steady
    def test_roundTripAtAnyOffset(self, sample: tuple[Node, Any], before: bytes, behind: bytes) -> None:
        node, value = sample
        encoded = reference.encode(node, value)
        data = before + encoded + behind
        expected = (value, len(before) + len(encoded))
        self.assertEqual(reference.decode(node, data, len(before)), expected)
        fast = fastDecode(node)
        self.assertEqual(fast(data, len(before)), expected)
        self.assertEqual(fast(memoryview(data), len(before)), expected)

    @given(nodes, junk)
    @steady
    def test_encodeWhatMayNotFit(self, node: Node, value: Any) -> None:
        self.sameEncoding(node, value)

    @given(samples(), st.data())
    @steady
    def test_encodeWhatFitsButForOneThing(self, sample: tuple[Node, Any], data: st.DataObject) -> None:
        node, value = sample
        self.sameEncoding(node, spoil(data, value))

    @given(nodes, st.binary(max_size=64))
    @steady
    def test_decodeAnyBytes(self, node: Node, data: bytes) -> None:
        self.sameDecoding(node, fastDecode(node), data)

    @given(samples())
    @steady
    def test_everyTruncationIsAnError(self, sample: tuple[Node, Any]) -> None:
        node, value = sample
        data = reference.encode(node, value)
        fast = fastDecode(node)
        for size in range(len(data)):
            self.assertRaises(GaveUp, fast, data[:size])
            self.assertRaises(XDRError, node.codec.decode, data[:size])

    @given(samples())
    @settings(steady, max_examples=40)
    def test_everyBitFlipIsAValueOrAnError(self, sample: tuple[Node, Any]) -> None:
        node, value = sample
        data = reference.encode(node, value)
        fast = fastDecode(node)
        for bit in range(min(len(data), 80) * 8):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 0x80 >> bit % 8
            self.sameDecoding(node, fast, bytes(flipped))

    def sameEncoding(self, node: Node, value: Any) -> None:
        fast = fastEncode(node)
        self.sameOutcome(
            lambda: fast(value), lambda: reference.encode(node, value), lambda: node.codec.encode(value)
        )

    def sameDecoding(self, node: Node, fast: Any, data: bytes) -> None:
        self.sameOutcome(
            lambda: fast(data), lambda: reference.decode(node, data), lambda: node.codec.decode(data)
        )

    def sameOutcome(self, fast: Any, slow: Any, both: Any) -> None:
        """All succeed with one result, or compiled code gives up and the others raise L{XDRError}."""
        try:
            expected = slow()
        except XDRError as error:
            self.assertRaises(GaveUp, fast)
            self.assertEqual(str(self.assertRaises(XDRError, both)), str(error))
        else:
            # By repr, for which a NaN is one too.
            self.assertEqual(repr(fast()), repr(expected))
            self.assertEqual(repr(both()), repr(expected))
