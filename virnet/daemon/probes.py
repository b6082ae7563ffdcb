"""Probes as lines and structured events of C{twisted.logger}.

Programs, procedures, types and statuses are shown by name: what a person reads is C{REMOTE
domainLookupByName CALL OK}, what a program reads are the fields of the event, with the numbers.

Objects are shown by kind and address, connections with their peer besides: several may have the same peer,
and lines of one have to be found. What has blanks in it is quoted as a shell would have it.
"""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote
from typing import Any

from twisted.logger import Logger

from virnet.probes import Probe, subscribe
from virnet.programs import ADMIN, KEEPALIVE, LOCK, LXC, QEMU, REMOTE
from virnet.programs.base import Program
from virnet.wire.auth import AUTH_TYPES
from virnet.wire.message import MessageStatus, MessageType

_log = Logger(namespace="virnet.probe")
_PROGRAMS: dict[tuple[int, int], Program[Any]] = {
    (each.number, each.version): each for each in (REMOTE, QEMU, LXC, ADMIN, KEEPALIVE, LOCK)
}


def trace(*patterns: str, log: Logger = _log) -> Callable[[], None]:
    """Log every probe whose name matches, at level info, in one line even if it matches more than once.

    @param patterns: shell patterns, like C{rpc_server_client_msg_*}.
    @return: call it to stop.
    @raise ValueError: no probe has such a name.
    """

    def write(probe: Probe, values: tuple[Any, ...]) -> None:
        fields = dict(zip(probe.fields, values, strict=True))
        log.info("{probe} {words}", probe=probe.name, words=describe(probe, values), **fields)

    return subscribe(patterns, write)


def describe(probe: Probe, values: tuple[Any, ...]) -> str:
    """The values of a probe in words: C{name=value} pairs, names for numbers that have them."""
    fields = dict(zip(probe.fields, values, strict=True))
    program = _PROGRAMS.get((fields.get("prog", -1), fields.get("vers", -1)))
    names: dict[str, Callable[[Any], str | None]] = {
        "prog": lambda _: program.name if program is not None else None,
        "proc": lambda number: _procedure(program, number),
        "type": lambda number: _member(MessageType, number),
        "status": lambda number: _member(MessageStatus, number),
        "authtype": AUTH_TYPES.get,
    }
    return " ".join(
        f"{field}={names.get(field, _text)(value) or _text(value)}" for field, value in fields.items()
    )


def _text(value: object) -> str:
    if isinstance(value, str):
        return quote(value if value.isprintable() else ascii(value))
    if value is None or isinstance(value, int | float):
        return str(value)
    kind = getattr(value, "__qualname__", None) or type(value).__name__
    peer = getattr(value, "peer", None)
    text = f"{kind}@{id(value):#x}"
    return quote(f"{text} {peer}") if isinstance(peer, str) else text


def _procedure(program: Program[Any] | None, number: int) -> str | None:
    if program is None:
        return None
    procedure = program.procedures.get(number) or program.events.get(number)
    return procedure.name if procedure is not None else None


def _member(kind: type[MessageType] | type[MessageStatus], number: int) -> str | None:
    try:
        return kind(number).name
    except ValueError:
        return None
