"""What libvirt's daemon does between the RPC and a driver, for every hypervisor alike.

Rules:

  - Before CONNECT_OPEN only closing, opening and the question for feature 10 are answered (``wire.md`` 3.4;
    authentication is the server's). An open that failed can be tried again; a second one is refused and
    changes nothing.
  - Read-only is what arrived on a read-only socket or set bit 0 when opening; other bits mean nothing here.
  - What the daemon itself can do is answered here: features 8, 10, 14 and 15, close callbacks, events.
  - Typed parameters are counted, cut to what was asked for, and rid of strings the client did not ask for
    (``wire.md`` section 14), whatever the hypervisor returns.
  - All else is the hypervisor's; what it does not provide answers NO_SUPPORT in the name of its C function.
  - When the connection goes, everything registered goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from zope.interface import Interface, implementer

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.refusals import Method, notSupported, onlyLooking
from virnet.hypervisor.registrations import IEventSource, Registrations
from virnet.programs import REMOTE, IEventRegistration
from virnet.programs.base import IMethodSource, Procedure
from virnet.programs.typedparams import TypedParams
from virnet.xdr.schema import Array, Mapped, Struct

#: Features of the daemon (C: C{virDrvFeature}): descriptors, keepalive, events by id, close callbacks.
FD_PASSING, KEEPALIVE, EVENT_CALLBACK, CLOSE_CALLBACK = 8, 10, 14, 15
#: Features of a driver, unless it says otherwise: string parameters, NETWORK_UPDATE's argument order.
TYPED_PARAM_STRING, NETWORK_UPDATE_ORDER = 9, 16
_DAEMON_FEATURES = frozenset({FD_PASSING, KEEPALIVE, EVENT_CALLBACK, CLOSE_CALLBACK})
_DRIVER_FEATURES = frozenset({TYPED_PARAM_STRING, NETWORK_UPDATE_ORDER})

#: Bit 0 of CONNECT_OPEN's flags (C: C{VIR_CONNECT_RO}).
READ_ONLY = 1
#: The client takes string parameters (C: C{VIR_TYPED_PARAM_STRING_OKAY}).
STRING_OKAY = 4

_LIST_LIMITS = ("maxids", "maxnames", "maxuuids")


class IHypervisor(Interface):
    """Something whose domains and so on can be managed."""

    def open(name: str, readonly: bool, client: Any) -> Any:
        """Begin a connection.

        @param name: the URI; empty if the server is to choose.
        @param client: the L{IServerClient<virnet.server.interfaces.IServerClient>}.
        @return: one provider or several of parts of C{IRemote}, of which the first that has a method answers;
            one may provide L{IEventSource}. Or a C{Deferred} of that.
        @raise RemoteError: there is no such hypervisor here.
        """


@implementer(IMethodSource)
class RemoteSession:
    """One client's connection to a hypervisor: the provider of program REMOTE.

    @ivar client: the connection.
    @ivar readonly: whether only looking is allowed; known when the hypervisor is open.
    """

    def __init__(self, client: Any, hypervisor: Any) -> None:
        """@param client: an L{IServerClient<virnet.server.interfaces.IServerClient>}.
        @param hypervisor: an L{IHypervisor}.
        """
        self.client = client
        self.readonly = False
        self._hypervisor = hypervisor
        self._providers: tuple[object, ...] | None = None
        self._registrations: Registrations | None = None
        self._opening = False
        self._closeRegistered = False
        client.onDisconnect(self._disconnected)

    def methodFor(self, procedure: Procedure) -> Method:
        """Find what answers a procedure.

        @raise RemoteError: the connection is not open, or read-only, or the hypervisor has no such method.
        """
        if procedure.name in _ALWAYS:
            method: Method = getattr(self, procedure.name)
            return method
        if self._providers is None:
            raise _internal("hypervisor connection not open")
        found = self._find(procedure)
        if found is None:
            # As in libvirt a read-only connection learns only that it may not.
            if self.readonly:
                onlyLooking(procedure, _nothing)
            raise notSupported(procedure)
        method = _withParameterRules(procedure, found)
        return onlyLooking(procedure, method) if self.readonly else method

    def _find(self, procedure: Procedure) -> Method | None:
        name, registrations = procedure.name, self._registrations
        found: Method | None
        if name in IEventRegistration:
            found = getattr(registrations, name) if registrations is not None else None
            return found
        for provider in self._providers or ():
            if IMethodSource.providedBy(provider):
                found = provider.methodFor(procedure)
            else:
                found = getattr(provider, name, None)
            if found is not None:
                return found
        return getattr(self, name, None) if name in _DEFAULTS else None

    # Opening and closing

    def connectOpen(self, name: str | None, flags: int) -> Deferred[None]:
        """Open the hypervisor.

        @param name: its URI; empty leaves the choice to the hypervisor, C{None} is refused.
        @param flags: bit 0 asks for a read-only connection.
        """
        if name is None:
            raise _internal("connection not open")
        if self._opening or self._providers is not None:
            raise _internal("connection already open")
        self._opening = True
        readonly = bool(self.client.readonly or flags & READ_ONLY)

        def opened(found: object) -> None:
            self._opening = False
            providers = tuple(found) if isinstance(found, (tuple, list)) else (found,)
            source = next((each for each in providers if IEventSource.providedBy(each)), None)
            if source is not None:
                self._registrations = Registrations(self.client.events(REMOTE), source)
            self._providers = providers
            self.readonly = self.client.readonly = readonly

        def failed(failure: Any) -> Any:
            self._opening = False
            return failure

        return maybeDeferred(self._hypervisor.open, name, readonly, self.client).addCallbacks(opened, failed)

    def connectClose(self) -> None:
        """Close the connection once this is answered."""
        self._disconnected()
        self.client.closeAfterReply()

    def _disconnected(self) -> None:
        self._closeRegistered = False
        if self._registrations is not None:
            self._registrations.close()

    # What the daemon knows itself

    def connectSupportsFeature(self, feature: int) -> Any:
        """Say whether something is supported (C: C{virDrvFeature}).

        @return: 1 or 0.
        """
        if self._providers is None and feature != KEEPALIVE:
            raise _internal("hypervisor connection not open")
        if feature == KEEPALIVE:
            # Only who asks is known to understand PINGs.
            self.client.useKeepAlive()
        if feature in _DAEMON_FEATURES:
            return 1
        for provider in self._providers or ():
            ask = getattr(provider, "connectSupportsFeature", None)
            if ask is not None:
                return ask(feature)
        return int(feature in _DRIVER_FEATURES)

    def connectIsSecure(self) -> int:
        """Whether nobody listens between the daemon and the hypervisor; in one process nobody can."""
        return 1

    def connectRegisterCloseCallback(self) -> None:
        """Ask to be told when the hypervisor's end goes away."""
        self._closeRegistered = True

    def connectUnregisterCloseCallback(self) -> None:
        """Ask no longer."""
        self._closeRegistered = False

    def hypervisorClosed(self, reason: int) -> None:
        """Tell the client that the hypervisor's end went away, if it asked for that.

        @param reason: a L{ConnectCloseReason<virnet.programs.constants.ConnectCloseReason>}.
        """
        if self._closeRegistered:
            self.client.events(REMOTE).connectEventConnectionClosed(reason)


#: Answered whether the hypervisor is open or not.
_ALWAYS = frozenset("connectOpen connectClose connectSupportsFeature".split())
#: Answered by the session if the hypervisor does not.
_DEFAULTS = frozenset("connectIsSecure connectRegisterCloseCallback connectUnregisterCloseCallback".split())


def _nothing() -> None:
    return None


def _internal(detail: str) -> RemoteError:
    return RemoteError.of(ErrorNumber.INTERNAL_ERROR, detail, ErrorDomain.RPC)


def _withParameterRules(procedure: Procedure, method: Method) -> Method:
    """Let a method obey what holds for numbers of entries and for typed parameters."""
    parameters = procedure.parameters
    if "nparams" in parameters and (limit := _parametersLimit(procedure)) is not None:
        return _cut(procedure, method, limit)
    if "params" in parameters:
        return _checkNames(method, parameters.index("params"))
    for name in _LIST_LIMITS:
        if name in parameters:
            return _notNegative(method, parameters.index(name), name)
    return method


def _parametersLimit(procedure: Procedure) -> int | None:
    """How many typed parameters a reply holds; C{None} if it has none."""
    ret = procedure.ret
    nodes: Iterable[Any] = [node for _, node in ret.fields] if isinstance(ret, Struct) else [ret]
    for node in nodes:
        if isinstance(node, Mapped) and isinstance(node.node, Array):
            return node.node.max
    return None


def _cut(procedure: Procedure, method: Method, limit: int) -> Method:
    position = procedure.parameters.index("nparams")
    flags = procedure.parameters.index("flags") if "flags" in procedure.parameters else None

    def bounded(*args: Any) -> Any:
        asked = args[position]
        if asked < 0:
            raise _internal("nparams must be non-negative")
        if asked > limit:
            raise _internal("nparams too large")
        strings = flags is not None and bool(args[flags] & STRING_OKAY)

        def rule(answer: Any) -> Any:
            if isinstance(answer, TypedParams):
                return _select(answer, asked, strings)
            params, available = answer
            if not asked:
                return type(answer)(TypedParams(), available or len(params))
            return type(answer)(_select(params, asked, strings), 0)

        answer = method(*args)
        if iscoroutine(answer):
            answer = Deferred.fromCoroutine(answer)
        return answer.addCallback(rule) if isinstance(answer, Deferred) else rule(answer)

    return bounded


def _select(params: TypedParams, asked: int, strings: bool) -> TypedParams:
    chosen = params.first(asked)
    return chosen if strings else chosen.withoutStrings()


def _checkNames(method: Method, position: int) -> Method:
    def checked(*args: Any) -> Any:
        params = args[position]
        name = params.oversized() if isinstance(params, TypedParams) else None
        if name is not None:
            detail = f"parameter {name} too big for destination"
            raise RemoteError.of(ErrorNumber.INTERNAL_ERROR, detail, ErrorDomain.NONE)
        return method(*args)

    return checked


def _notNegative(method: Method, position: int, name: str) -> Method:
    def checked(*args: Any) -> Any:
        if args[position] < 0:
            raise RemoteError.of(ErrorNumber.RPC, f"{name} must be non-negative", ErrorDomain.RPC)
        return method(*args)

    return checked


SessionFactory = Callable[[Any], RemoteSession]


def sessionsOf(hypervisor: Any) -> SessionFactory:
    """The factory of program REMOTE for a hypervisor: a session for each connection."""
    return lambda client: RemoteSession(client, hypervisor)
