"""Random values of XDR types, as bytes: mostly well-formed, made of what is likely to hurt."""

from __future__ import annotations

import struct
from random import Random

from virnet.xdr import schema
from virnet.xdr.schema import Node

NUMBERS = (0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 255, 256, 1024, 8388608, 2**31 - 1, -1, -2, -(2**31))
WORDS = (
    "",
    "test",
    "default",
    "default-pool",
    "eth1",
    "x",
    "../../etc/passwd",
    "%s%s%n",
    "é🙂",
    "\udcff\udc80",
    "\0nul\0",
    "a" * 300,
    "<domain/>",
    "<domain type='test'><name>n</name><memory>1</memory><os><type>hvm</type></os></domain>",
    "<network><name>n</name></network>",
    "<pool type='dir'><name>p</name></pool>",
    "<volume><name>v</name><capacity>1</capacity></volume>",
    "<domainsnapshot><name>s</name></domainsnapshot>",
    "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
    "<" + "a><" * 500,
    "weight",
    "vda",
    "-1",
    "4294967296",
)


class Garbler:
    """Makes random arguments."""

    def __init__(self, seed: int, objects: dict[tuple[str, ...], list[bytes]]) -> None:
        """@param objects: names of the fields of a structure to encodings of it that make sense."""
        self._random = Random(seed)
        self._objects = objects

    def make(self, node: Node, depth: int = 0) -> bytes:
        """The encoding of some value of a type."""
        choose = self._random
        if isinstance(node, schema.Integer):
            size = struct.calcsize(node.code)
            return (choose.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "big")
        if isinstance(node, schema.Real):
            return struct.pack(
                f">{node.code}", choose.choice((0.0, -1.5, 1e308 if node.code == "d" else 1e38))
            )
        if isinstance(node, schema.Bool | schema.Enum):
            return struct.pack(">i", choose.choice(NUMBERS))
        if isinstance(node, schema.String):
            return _counted(choose.choice(WORDS).encode("utf-8", "surrogateescape")[: node.max])
        if isinstance(node, schema.Opaque):
            return _counted(choose.randbytes(choose.randrange(20))[: node.max])
        if isinstance(node, schema.FixedOpaque):
            return choose.randbytes(node.size)
        if isinstance(node, schema.Array):
            most = 3 if node.max is None else min(3, node.max)
            count = choose.randint(0, most)
            return struct.pack(">I", count) + b"".join(self.make(node.item, depth + 1) for _ in range(count))
        if isinstance(node, schema.FixedArray):
            return b"".join(self.make(node.item, depth + 1) for _ in range(node.size))
        if isinstance(node, schema.Optional):
            if depth > 5 or choose.random() < 0.5:
                return bytes(4)
            return b"\0\0\0\x01" + self.make(node.item, depth + 1)
        if isinstance(node, schema.Struct):
            known = self._objects.get(tuple(name for name, _ in node.fields))
            if known and choose.random() < 0.8:
                return choose.choice(known)
            return b"".join(self._field(name, field, depth) for name, field in node.fields)
        if isinstance(node, schema.Union):
            switch = choose.choice(list(node.arms))
            return struct.pack(">i", switch) + self.make(node.arms[switch][1], depth + 1)
        if isinstance(node, schema.Mapped):
            return self.make(node.node, depth)
        if isinstance(node, schema.Ref):
            return self.make(node.thunk(), depth + 1)
        assert isinstance(node, schema.Void), node
        return b""

    def _field(self, name: str, node: Node, depth: int) -> bytes:
        if name == "flags" and self._random.random() < 0.8:
            return bytes(4)
        return self.make(node, depth + 1)

    def damage(self, data: bytes) -> bytes:
        """Flip a bit, cut something off, or put something behind it; or leave it as it is."""
        choose = self._random
        kind = choose.randrange(6)
        if kind == 0 and data:
            place = choose.randrange(len(data))
            return data[:place] + bytes([data[place] ^ 1 << choose.randrange(8)]) + data[place + 1 :]
        if kind == 1:
            return data[: choose.randrange(len(data) + 1)]
        if kind == 2:
            return data + choose.randbytes(8)
        return data


def _counted(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)
