"""Probes: named points at which anybody may watch what happens.

Names and fields are libvirt's trace points, so that what people know of those holds here. A probe without a
listener costs the test whether it has one. Listeners are called with the probe and its values, in the thread
in which it happens; what they raise goes to whoever was being watched, so they better not.

Who wants lines in a log: L{virnet.daemon.probes}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

Listener = Callable[["Probe", tuple[Any, ...]], object]


class Probe:
    """One trace point.

    @ivar name: as libvirt has it.
    @ivar fields: the names of its values, in order.
    @ivar listeners: who is called; test this before calling the probe.
    """

    __slots__ = ("fields", "listeners", "name")

    def __init__(self, name: str, fields: str) -> None:
        self.name = name
        self.fields = tuple(fields.split())
        self.listeners: tuple[Listener, ...] = ()

    def __call__(self, *values: Any) -> None:
        """Tell the listeners.

        @param values: one for each field.
        """
        for listener in self.listeners:
            listener(self, values)

    def __repr__(self) -> str:
        return f"<Probe {self.name}>"


PROBES: dict[str, Probe] = {}
"""Every probe by its name."""


def _probe(name: str, fields: str) -> Probe:
    probe = PROBES[name] = Probe(name, fields)
    return probe


_MESSAGE = "client len prog vers proc type status serial"

SOCKET_NEW = _probe("rpc_socket_new", "sock fd errfd pid localAddr remoteAddr")
SOCKET_DISPOSE = _probe("rpc_socket_dispose", "sock")
SOCKET_SEND_FD = _probe("rpc_socket_send_fd", "sock fd")
SOCKET_RECV_FD = _probe("rpc_socket_recv_fd", "sock fd")
SERVER_CLIENT_NEW = _probe("rpc_server_client_new", "client sock")
SERVER_CLIENT_DISPOSE = _probe("rpc_server_client_dispose", "client")
SERVER_CLIENT_MSG_TX_QUEUE = _probe("rpc_server_client_msg_tx_queue", _MESSAGE)
SERVER_CLIENT_MSG_RX = _probe("rpc_server_client_msg_rx", _MESSAGE)
SERVER_CLIENT_AUTH_ALLOW = _probe("rpc_server_client_auth_allow", "client authtype identity")
SERVER_CLIENT_AUTH_DENY = _probe("rpc_server_client_auth_deny", "client authtype identity")
SERVER_CLIENT_AUTH_FAIL = _probe("rpc_server_client_auth_fail", "client authtype")
CLIENT_NEW = _probe("rpc_client_new", "client sock")
CLIENT_DISPOSE = _probe("rpc_client_dispose", "client")
CLIENT_MSG_TX_QUEUE = _probe("rpc_client_msg_tx_queue", _MESSAGE)
CLIENT_MSG_RX = _probe("rpc_client_msg_rx", _MESSAGE)
TLS_CONTEXT_NEW = _probe(
    "rpc_tls_context_new", "ctxt cacert cacrl cert key sanityCheckCert requireValidCert isServer"
)
TLS_CONTEXT_DISPOSE = _probe("rpc_tls_context_dispose", "ctxt")
TLS_CONTEXT_SESSION_ALLOW = _probe("rpc_tls_context_session_allow", "ctxt sess dname")
TLS_CONTEXT_SESSION_DENY = _probe("rpc_tls_context_session_deny", "ctxt sess dname")
TLS_CONTEXT_SESSION_FAIL = _probe("rpc_tls_context_session_fail", "ctxt sess")
TLS_SESSION_NEW = _probe("rpc_tls_session_new", "sess ctxt hostname isServer")
TLS_SESSION_DISPOSE = _probe("rpc_tls_session_dispose", "sess")
TLS_SESSION_HANDSHAKE_PASS = _probe("rpc_tls_session_handshake_pass", "sess")
TLS_SESSION_HANDSHAKE_FAIL = _probe("rpc_tls_session_handshake_fail", "sess")
KEEPALIVE_NEW = _probe("rpc_keepalive_new", "ka client")
KEEPALIVE_DISPOSE = _probe("rpc_keepalive_dispose", "ka")
KEEPALIVE_START = _probe("rpc_keepalive_start", "ka client interval count")
KEEPALIVE_STOP = _probe("rpc_keepalive_stop", "ka client")
KEEPALIVE_SEND = _probe("rpc_keepalive_send", "ka client prog vers proc")
KEEPALIVE_RECEIVED = _probe("rpc_keepalive_received", "ka client prog vers proc")
KEEPALIVE_TIMEOUT = _probe("rpc_keepalive_timeout", "ka client countToDeath idle")
EVENT_POLL_ADD_HANDLE = _probe("event_poll_add_handle", "watch fd events cb opaque ff")
EVENT_POLL_UPDATE_HANDLE = _probe("event_poll_update_handle", "watch events")
EVENT_POLL_REMOVE_HANDLE = _probe("event_poll_remove_handle", "watch")
EVENT_POLL_DISPATCH_HANDLE = _probe("event_poll_dispatch_handle", "watch events")
EVENT_POLL_PURGE_HANDLE = _probe("event_poll_purge_handle", "watch")
EVENT_POLL_ADD_TIMEOUT = _probe("event_poll_add_timeout", "timer frequency cb opaque ff")
EVENT_POLL_UPDATE_TIMEOUT = _probe("event_poll_update_timeout", "timer frequency")
EVENT_POLL_REMOVE_TIMEOUT = _probe("event_poll_remove_timeout", "timer")
EVENT_POLL_DISPATCH_TIMEOUT = _probe("event_poll_dispatch_timeout", "timer")
EVENT_POLL_PURGE_TIMEOUT = _probe("event_poll_purge_timeout", "timer")
EVENT_POLL_RUN = _probe("event_poll_run", "nfds timeout")
OBJECT_NEW = _probe("object_new", "obj class")
OBJECT_REF = _probe("object_ref", "obj")
OBJECT_UNREF = _probe("object_unref", "obj")
OBJECT_DISPOSE = _probe("object_dispose", "obj")


def objectNew(obj: object) -> None:
    """Something that is in use for a while, a connection or a stream, has begun to be."""
    if OBJECT_NEW.listeners:
        OBJECT_NEW(obj, type(obj).__name__)


def objectDispose(obj: object) -> None:
    """It is not in use any more. When its memory is free is for Python to say."""
    if OBJECT_DISPOSE.listeners:
        OBJECT_DISPOSE(obj)


def matching(*patterns: str) -> list[Probe]:
    """The probes whose names match shell patterns, like C{rpc_server_client_msg_*}, each once.

    @raise ValueError: a pattern matches no name; says which are like it.
    """
    found: dict[str, Probe] = {}
    for pattern in patterns:
        matched = {name: probe for name, probe in PROBES.items() if fnmatchcase(name, pattern)}
        if not matched:
            raise ValueError(f"no probe matches {pattern!r}; {_meant(pattern)}")
        found.update(matched)
    return list(found.values())


def _meant(pattern: str) -> str:
    # Takes a while to load, and nobody else needs it.
    from difflib import get_close_matches

    near = get_close_matches(pattern, PROBES, 3)
    return f"like it are {', '.join(near)}" if near else f"there are {', '.join(sorted(PROBES))}"


def subscribe(patterns: str | Iterable[str], listener: Listener) -> Callable[[], None]:
    """Have something called whenever a probe fires.

    @param patterns: a shell pattern for names, or several. A probe that matches more than one fires once.
    @param listener: called with the probe and the tuple of its values.
    @return: call it to end the subscription.
    @raise ValueError: no probe has such a name.
    """
    probes = matching(*((patterns,) if isinstance(patterns, str) else patterns))
    for probe in probes:
        probe.listeners = (*probe.listeners, listener)

    def unsubscribe() -> None:
        for probe in probes:
            listeners = list(probe.listeners)
            if listener in listeners:
                listeners.remove(listener)
                probe.listeners = tuple(listeners)

    return unsubscribe
