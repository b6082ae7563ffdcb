"""
Our compiled codecs against what a careful user of xdrlib3 writes by hand for the same bytes.

The shapes are those of which libvirt's traffic is made. Ours judges maximum lengths too, which xdrlib3 leaves
to its user.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from xdrlib3 import Packer, Unpacker

from tests.bench.rounds import Case, Contender, Sample
from virnet.programs import REMOTE
from virnet.programs.typedparams import TypedParams, UInt, ULLong

BATCH_SECONDS = 0.002
"""How long to code between two looks at the clock."""

UUID = bytes(range(16))


class Shape(NamedTuple):
    """
    One value, and both ways to make bytes of it and to read it.

    @ivar value: what our encoder takes.
    @ivar peerValue: what the peer's takes.
    """

    name: str
    value: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    peerValue: Any
    peerEncode: Callable[[Any], bytes]
    peerDecode: Callable[[bytes], Any]


def _encodeText(value: str) -> bytes:
    packer = Packer()
    packer.pack_string(value.encode())
    return packer.get_buffer()


def _decodeText(data: bytes) -> str:
    text: bytes = Unpacker(data).unpack_string()
    return text.decode()


def _packDomain(packer: Packer, value: tuple[str, bytes, int]) -> None:
    name, uuid, id = value
    packer.pack_string(name.encode())
    packer.pack_fopaque(16, uuid)
    packer.pack_int(id)


def _unpackDomain(unpacker: Unpacker) -> tuple[str, bytes, int]:
    return unpacker.unpack_string().decode(), unpacker.unpack_fopaque(16), unpacker.unpack_int()


def _encodeDomain(value: tuple[str, bytes, int]) -> bytes:
    packer = Packer()
    _packDomain(packer, value)
    return packer.get_buffer()


def _decodeDomain(data: bytes) -> tuple[str, bytes, int]:
    return _unpackDomain(Unpacker(data))


def _encodeDomains(value: tuple[list[tuple[str, bytes, int]], int]) -> bytes:
    packer = Packer()
    packer.pack_array(value[0], lambda item: _packDomain(packer, item))
    packer.pack_uint(value[1])
    return packer.get_buffer()


def _decodeDomains(data: bytes) -> tuple[list[tuple[str, bytes, int]], int]:
    unpacker = Unpacker(data)
    return unpacker.unpack_array(lambda: _unpackDomain(unpacker)), unpacker.unpack_uint()


def _encodeInfo(value: tuple[int, int, int, int, int]) -> bytes:
    state, maxMem, memory, nrVirtCpu, cpuTime = value
    packer = Packer()
    packer.pack_uint(state)
    packer.pack_uhyper(maxMem)
    packer.pack_uhyper(memory)
    packer.pack_uint(nrVirtCpu)
    packer.pack_uhyper(cpuTime)
    return packer.get_buffer()


def _decodeInfo(data: bytes) -> tuple[int, int, int, int, int]:
    unpacker = Unpacker(data)
    return (
        unpacker.unpack_uint(),
        unpacker.unpack_uhyper(),
        unpacker.unpack_uhyper(),
        unpacker.unpack_uint(),
        unpacker.unpack_uhyper(),
    )


def _encodeParams(value: list[tuple[str, int, Any]]) -> bytes:
    packer = Packer()
    packText: Callable[[str], None] = lambda text: packer.pack_string(text.encode())  # noqa: E731
    arms = {2: packer.pack_uint, 4: packer.pack_uhyper, 7: packText}

    def pack(param: tuple[str, int, Any]) -> None:
        field, kind, content = param
        packText(field)
        packer.pack_int(kind)
        arms[kind](content)

    packer.pack_array(value, pack)
    return packer.get_buffer()


def _decodeParams(data: bytes) -> list[tuple[str, int, Any]]:
    unpacker = Unpacker(data)
    unpackText: Callable[[], str] = lambda: unpacker.unpack_string().decode()  # noqa: E731
    arms: dict[int, Callable[[], Any]] = {2: unpacker.unpack_uint, 4: unpacker.unpack_uhyper, 7: unpackText}

    def unpack() -> tuple[str, int, Any]:
        field, kind = unpackText(), unpacker.unpack_int()
        return field, kind, arms[kind]()

    return unpacker.unpack_array(unpack)


def shapes() -> list[Shape]:
    """
    What is coded.
    """
    lookup = REMOTE.byName["domainLookupByName"]
    listing = REMOTE.byName["connectListAllDomains"]
    info = REMOTE.byName["domainGetInfo"]
    description = REMOTE.byName["domainGetXMLDesc"]
    parameters = REMOTE.byName["domainGetSchedulerParametersFlags"]
    domain = ("test", UUID, 1)
    domains = ([(f"domain-{number}", UUID, number) for number in range(100)], 100)
    statistics = (1, 8388608, 2097152, 2, 1234567890123)
    params: list[tuple[str, int, Any]] = []
    for number in range(5):
        params += [(f"u{number}", 2, number), (f"ul{number}", 4, 1 << 40), (f"s{number}", 7, "text")]
    wrap: dict[int, Callable[[Any], Any]] = {2: UInt, 4: ULLong, 7: str}
    typed = TypedParams([(field, wrap[kind](content)) for field, kind, content in params])
    xml = "<domain>" + "x" * 4000 + "</domain>"
    return [
        Shape(
            "one short string",
            ("test",),
            lookup.encodeArgs,
            lookup.decodeArgs,
            "test",
            _encodeText,
            _decodeText,
        ),
        Shape("a domain", domain, lookup.encodeRet, lookup.decodeRet, domain, _encodeDomain, _decodeDomain),
        Shape(
            "five numbers", statistics, info.encodeRet, info.decodeRet, statistics, _encodeInfo, _decodeInfo
        ),
        Shape(
            "4 KiB of XML", xml, description.encodeRet, description.decodeRet, xml, _encodeText, _decodeText
        ),
        Shape(
            "15 typed parameters",
            typed,
            parameters.encodeRet,
            parameters.decodeRet,
            params,
            _encodeParams,
            _decodeParams,
        ),
        Shape(
            "100 domains",
            domains,
            listing.encodeRet,
            listing.decodeRet,
            domains,
            _encodeDomains,
            _decodeDomains,
        ),
    ]


def _measure(code: Callable[[Any], Any], value: Any) -> Callable[[float], Sample]:
    def measure(seconds: float) -> Sample:
        clock = time.perf_counter
        before = clock()
        code(value)
        batch = range(max(1, int(BATCH_SECONDS / (clock() - before))))
        count = 0
        cpuStart = time.process_time()
        start = clock()
        deadline = start + seconds
        while clock() < deadline:
            for _ in batch:
                code(value)
            count += len(batch)
        return Sample(rate=count / (clock() - start), cpu=(time.process_time() - cpuStart) / count)

    return measure


def codecCases() -> list[Case]:
    """
    Encoding and decoding of every shape.
    """
    cases: list[Case] = []
    for shape in shapes():
        data = shape.peerEncode(shape.peerValue)
        cases.append(
            Case(
                "codec, encode",
                shape.name,
                Contender("virnet", _measure(shape.encode, shape.value)),
                (Contender("xdrlib3", _measure(shape.peerEncode, shape.peerValue)),),
            )
        )
        cases.append(
            Case(
                "codec, decode",
                shape.name,
                Contender("virnet", _measure(shape.decode, data)),
                (Contender("xdrlib3", _measure(shape.peerDecode, data)),),
            )
        )
    return sorted(cases, key=lambda case: case.section, reverse=True)
