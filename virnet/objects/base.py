"""What objects are: a value of the wire, and the connection that it was got over.

Rules that live here:

  - Two objects are equal when they stand for the same thing: the same uuid, or what else names it; whatever
    connection they came over, whatever has happened to it since.
  - A method returns a Deferred of what the procedure returns, with objects in the place of values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred

from virnet.programs.base import Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from virnet.programs import ILxc, IQemu, IRemote

V = TypeVar("V", bound=tuple[Any, ...])
I = TypeVar("I")  # noqa: E741 - an interface, as zope names them


class Stream(Protocol):
    """What a procedure that opens a stream brings: L{ClientStream<virnet.client.stream.ClientStream>}."""

    async def receive(self) -> Any: ...
    def send(self, data: bytes) -> Deferred[None]: ...
    async def receiveInto(self, target: Any, progress: Callable[[int], object] | None = None) -> int: ...
    async def sendFrom(
        self, source: Any, progress: Callable[[int], object] | None = None, length: int | None = None
    ) -> int: ...
    def finish(self) -> Deferred[None]: ...
    def abort(self) -> Deferred[None]: ...
    def __aiter__(self) -> AsyncIterator[Any]: ...


class HostBase:
    """What a connection must have for its objects to work.

    @ivar remote: calls the procedures of the main program.
    """

    remote: IRemote

    def program(self, program: Program[I]) -> I:
        """Get an object that calls the procedures of a program."""
        raise NotImplementedError

    def whenClosed(self) -> Deferred[Exception]:
        """Wait for the end of the connection."""
        raise NotImplementedError

    @property
    def qemu(self) -> IQemu:
        """Calls the procedures of the QEMU program."""
        from virnet.programs import QEMU

        return self.program(QEMU)

    @property
    def lxc(self) -> ILxc:
        """Calls the procedures of the LXC program."""
        from virnet.programs import LXC

        return self.program(LXC)

    def objectOf(self, value: Any) -> Any:
        """Make the object of a value, like a C{virnet.programs.values.Domain} of a reply or an event."""
        return KINDS[type(value)](self, value)

    def uploadVolume(self, volume: Any, source: Any, **options: Any) -> Deferred[Any]:
        """Fill a volume, see C{StorageVol.upload}."""
        raise NotImplementedError

    def downloadVolume(self, volume: Any, target: Any, **options: Any) -> Deferred[Any]:
        """Copy a volume, see C{StorageVol.download}."""
        raise NotImplementedError

    def _object(self, answer: Deferred[Any]) -> Deferred[Any]:
        return answer.addCallback(self.objectOf)

    def _list(self, answer: Deferred[Any]) -> Deferred[Any]:
        """Of a reply with a list and its length."""
        return answer.addCallback(lambda reply: [_made(self, each) for each in reply[0]])


KINDS: dict[type, Any] = {}
"""Class of a value to that of its object."""


def _made(host: HostBase, value: Any) -> Any:
    kind = KINDS.get(type(value))
    return value if kind is None else kind(host, value)


class Object(Generic[V]):
    """One object of a host.

    @ivar host: the connection.
    @ivar value: what stands for it on the wire, as it was when this was got.
    """

    __slots__ = ("host", "value")

    kind: ClassVar[type]

    def __init__(self, host: HostBase, value: V) -> None:
        self.host = host
        self.value = value

    def __init_subclass__(cls, value: type | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if value is not None:
            KINDS[value] = cls

    @property
    def remote(self) -> IRemote:
        """Calls the procedures of the main program."""
        return self.host.remote

    @property
    def qemu(self) -> IQemu:
        """Calls the procedures of the QEMU program."""
        return self.host.qemu

    @property
    def lxc(self) -> ILxc:
        """Calls the procedures of the LXC program."""
        return self.host.lxc

    @property
    def identity(self) -> Any:
        """What stays the same of it."""
        return getattr(self.value, "uuid", self.value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return bool(self.identity == cast(Object[Any], other).identity)

    def __hash__(self) -> int:
        return hash(self.identity)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self.value, 'name', self.identity)!r}>"

    def _object(self, answer: Deferred[Any]) -> Deferred[Any]:
        return answer.addCallback(self.host.objectOf)

    def _list(self, answer: Deferred[Any]) -> Deferred[Any]:
        return self.host._list(answer)
