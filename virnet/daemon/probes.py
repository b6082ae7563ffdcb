"""Probes as lines and structured events of C{twisted.logger}.

Programs, procedures, types and statuses are shown by name: what a person reads is C{REMOTE
domainLookupByName CALL OK}, what a program reads are the fields of the event, with the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
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


def trace(pattern: str, log: Logger = _log) -> Callable[[], None]:
    """Log every probe whose name matches, at level info.

    @param pattern: a shell pattern, like C{rpc_server_client_msg_*}.
    @return: call it to stop.
    @raise ValueError: no probe has such a name.
    """

    def write(probe: Probe, values: tuple[Any, ...]) -> None:
        fields = dict(zip(probe.fields, values, strict=True))
        log.info("{probe} {words}", probe=probe.name, words=describe(probe, values), **fields)

    return subscribe(pattern, write)


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
        "client": lambda client: getattr(client, "peer", None),
        "ka": lambda client: getattr(client, "peer", None),
    }
    return " ".join(
        f"{field}={(names.get(field) or _nothing)(value) or value}" for field, value in fields.items()
    )


def _nothing(_: object) -> None:
    return None


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
