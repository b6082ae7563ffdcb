"""What a program is: procedures with numbers and types, joined with the interfaces that say them in Python.

Rules that live here:

  - A program's interface is the contract in Python, its table the contract on the wire. L{Program} checks
    one against the other when it is made: numbers, method names, parameter names.
  - A procedure whose method is in the event interface is an event; it can never be called (``wire.md`` 1.3).
  - A procedure without a priority in its annotations is a low priority one (R043).
  - Codecs are compiled when a procedure is first used, and from then on are attributes of the procedure.
  - Bytes left over behind arguments or a return value are ignored (``wire.md`` section 0).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from zope.interface import Interface, implementer
from zope.interface.interface import InterfaceClass, Method

from virnet.errors import XDRError
from virnet.xdr.schema import Struct

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    from virnet.xdr.schema import Node

    E = TypeVarWithDefault("E", default=Any)
else:
    E = TypeVar("E")

I = TypeVar("I")  # noqa: E741 - the interface
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

Stream = Literal["read", "write", "duplex"]
Descriptors = Literal["call", "reply"]
Row = tuple[Any, ...]
"""The parameters of L{Procedure} in their order, without the defaults at the end: one line of a table."""


class Priority(IntEnum):
    """Who executes a call when all ordinary workers are busy (``wire.md`` 4.3)."""

    LOW = 0
    """May wait for the hypervisor: ordinary workers only."""
    HIGH = 1
    """Never waits: priority workers take it too."""


LOW, HIGH = Priority
"""For the tables."""


class IMethodSource(Interface):
    """A provider that says itself which callable executes a procedure.

    The server asks it instead of looking the method up by name.
    """

    def methodFor(procedure: Procedure) -> Callable[..., Any] | None:
        """Find what executes a procedure.

        @return: takes the procedure's arguments by position; C{None} answers NO_SUPPORT.
        @raise virnet.errors.RemoteError: the call is refused with this error.
        """


class Procedure:
    """One procedure or event of a program.

    @ivar number: on the wire, unique in the program.
    @ivar name: its method in the interface, like C{domainLookupByName}.
    @ivar args: (parameter, type) in wire order; empty for none.
    @ivar ret: type of the return value, C{None} for none. A return structure of one member is that member.
    @ivar priority: which workers take it.
    @ivar stream: C{"read"} from server to client, C{"write"} from client to server, C{"duplex"} both ways;
        C{None} without a stream.
    @ivar acl: permissions as C{object:permission} or C{object:permission:flag} (C: C{@acl}).
    @ivar aclFilter: permissions an object must grant to show up in the reply (C: C{@aclfilter}).
    @ivar sparse: whether its stream can carry holes.
    @ivar fds: descriptors come with the C{"call"} or with the C{"reply"}; C{None} for none.
    @ivar parameters: the names in C{args}.
    @ivar program: the program it belongs to, once it belongs to one.
    @ivar event: whether it is an event message rather than a call.
    """

    __slots__ = (
        "number", "name", "args", "ret", "priority", "stream", "acl", "aclFilter", "sparse", "fds",
        "parameters", "program", "event", "encodeArgs", "decodeArgs", "encodeRet", "decodeRet",
    )  # fmt: skip

    program: Program[Any, Any]
    encodeArgs: Callable[[Sequence[Any]], bytes]
    """Arguments in order, as bytes. Raises L{XDRError} with a path like C{args.flags}."""
    decodeArgs: Callable[..., tuple[Any, ...]]
    """C{(data, offset=0)}: the arguments in order."""
    encodeRet: Callable[[Any], bytes]
    """The return value as bytes. Raises L{XDRError} with a path like C{ret[3].name}."""
    decodeRet: Callable[..., Any]
    """C{(data, offset=0)}: the return value."""

    def __init__(
        self,
        number: int,
        name: str,
        args: tuple[tuple[str, Node], ...] = (),
        ret: Node | None = None,
        priority: Priority = Priority.LOW,
        stream: Stream | None = None,
        acl: tuple[str, ...] = (),
        aclFilter: tuple[str, ...] = (),
        sparse: bool = False,
        fds: Descriptors | None = None,
    ) -> None:
        self.number = number
        self.name = name
        self.args = args
        self.ret = ret
        self.priority = priority
        self.stream = stream
        self.acl = acl
        self.aclFilter = aclFilter
        self.sparse = sparse
        self.fds = fds
        self.parameters = tuple(parameter for parameter, _ in args)
        self.event = False

    def __repr__(self) -> str:
        program = getattr(self, "program", None)
        return f"<{program.name if program else 'Procedure'} {self.number} {self.name}>"

    def __getattr__(self, name: str) -> Any:
        # Reached once per procedure and direction: the slot is unset until its codec was compiled.
        if name in ("encodeArgs", "decodeArgs"):
            self.encodeArgs, self.decodeArgs = _functions(Struct("args", self.args), "args")
        elif name in ("encodeRet", "decodeRet"):
            self.encodeRet, self.decodeRet = _functions(self.ret, "ret")
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return object.__getattribute__(self, name)


def _functions(node: Node | None, root: str) -> tuple[Callable[[Any], bytes], Callable[..., Any]]:
    """Make the encoder and the decoder of one direction of a procedure.

    @param root: begins the path in an error.
    """
    if node is None:
        return _encodeNothing, _decodeNothing
    codec = node.codec
    encodeValue, decodeValue = codec.encode, codec.decode

    def encode(value: Any) -> bytes:
        try:
            return encodeValue(value)
        except XDRError as error:
            raise _below(root, error) from None

    def decode(data: bytes | memoryview, offset: int = 0) -> Any:
        try:
            return decodeValue(data, offset)[0]
        except XDRError as error:
            raise _below(root, error) from None

    return encode, decode


def _below(root: str, error: XDRError) -> XDRError:
    dot = "." if error.path and not error.path.startswith("[") else ""
    return XDRError(error.reason, root + dot + error.path)


def _encodeNothing(value: Any) -> bytes:
    if value is not None:
        raise XDRError(f"{value!r} returned by a procedure that returns nothing", "ret")
    return b""


def _decodeNothing(data: bytes | memoryview, offset: int = 0) -> None:
    return None


class Program(Generic[I, E]):
    """A numbered, versioned set of procedures and events.

    The type parameters are the interface of the calls and that of the events, so that
    C{client.program(REMOTE)} is an C{IRemote} for the type checker.

    @ivar number: on the wire, unsigned 32 bits.
    @ivar version: on the wire.
    @ivar name: for people, like C{REMOTE}.
    @ivar interface: of the callable procedures.
    @ivar eventInterface: of the events, C{None} where there are none.
    @ivar procedures: the callable ones by number.
    @ivar byName: the callable ones by method name.
    @ivar events: the events by number.
    @ivar eventsByName: the events by method name.
    """

    if not TYPE_CHECKING:  # pragma: no branch
        # The interface of the events may be left out, which Generic learns in Python 3.13 only.
        __class_getitem__ = classmethod(GenericAlias)

    def __init__(
        self,
        number: int,
        version: int,
        interface: Any,
        events: Any = None,
        procedures: Iterable[Row | Procedure] = (),
        name: str = "",
    ) -> None:
        """Join tables and interfaces.

        @param procedures: rows as L{Row} says, or procedures.
        @raise ValueError: the table and the interfaces contradict each other; the text says where.
        """
        if not 0 <= number < 2**32 or not 0 <= version < 2**32:
            raise ValueError(f"program {number} version {version}: both must fit 32 bits without sign")
        self.number = number
        self.version = version
        self.name = name or f"{number:#010x}"
        self.interface = interface
        self.eventInterface = events
        self.procedures: dict[int, Procedure] = {}
        self.byName: dict[str, Procedure] = {}
        self.events: dict[int, Procedure] = {}
        self.eventsByName: dict[str, Procedure] = {}
        calls = _methods(interface)
        messages = _methods(events) if events is not None else {}
        for row in procedures:
            procedure = row if isinstance(row, Procedure) else Procedure(*row)
            self._add(procedure, calls, messages)
        missing = sorted((set(calls) - set(self.byName)) | (set(messages) - set(self.eventsByName)))
        if missing:
            raise ValueError(f"{self.name}: no procedure for the method {', '.join(missing)}")

    def _add(self, procedure: Procedure, calls: Mapping[str, Method], messages: Mapping[str, Method]) -> None:
        number, name = procedure.number, procedure.name
        where = f"{self.name} {number} {name}"
        if not -(2**31) <= number < 2**31:
            raise ValueError(f"{where}: the number must fit a signed 32-bit word")
        if number in self.procedures or number in self.events:
            raise ValueError(f"{where}: the number is taken twice")
        if name in self.byName or name in self.eventsByName:
            raise ValueError(f"{where}: the name is taken twice")
        if name in calls and name in messages:
            raise ValueError(f"{where}: both a call and an event")
        method = messages.get(name) or calls.get(name)
        if method is None:
            raise ValueError(f"{where}: no such method in {self.interface.__name__}")
        said = _parameters(method)
        # Descriptors travel beside the arguments.
        wanted = (*procedure.parameters, "fds") if procedure.fds == "call" else procedure.parameters
        if said != wanted:
            raise ValueError(
                f"{where}: the table takes {_listed(wanted)}, "
                f"{method.interface.__name__} says {_listed(said)}"
            )
        procedure.program = self
        procedure.event = name in messages
        if procedure.event:
            self.events[number] = self.eventsByName[name] = procedure
        else:
            self.procedures[number] = self.byName[name] = procedure

    def __repr__(self) -> str:
        return f"<Program {self.name} {self.number:#010x} version {self.version}>"

    @classmethod
    def fromIDL(
        cls,
        text: str,
        filename: str = "<idl>",
        name: str | None = None,
        include: Callable[[str], str | None] | None = None,
    ) -> Program[Any, Any]:
        """Make a program from a C{.x} text, without generated files.

        Its interfaces are made from the text too: C{program.interface}, C{program.eventInterface}. Structures
        become named tuples, which are the C{factory} of their types; a plain tuple does as well where one is
        to be encoded. The type checker knows nothing of all this: for that, generate a module.

        @param filename: for error messages, and the program's name unless C{name} says another.
        @param include: gives the text of a file named by an include line, C{None} where there is none.
        @raise virnet.errors.IDLError: the text has an error.
        """
        from virnet.idl.compile import loadProgram
        from virnet.programs.overrides import OVERRIDES

        program: Program[Any, Any] = loadProgram(text, filename, name, include, OVERRIDES)
        return program


def _parameters(method: Method) -> tuple[str, ...]:
    return tuple(method.getSignatureInfo()["positional"])  # type: ignore[no-untyped-call]


def _methods(interface: InterfaceClass) -> dict[str, Method]:
    return {
        name: method
        for name, method in interface.namesAndDescriptions(all=True)
        if isinstance(method, Method)
    }


def _listed(names: Sequence[str]) -> str:
    return f"({', '.join(names)})"


def partialImplementer(*interfaces: Any) -> Callable[[type[T]], type[T]]:
    """Declare that a class provides part of some interfaces; what it lacks answers NO_SUPPORT.

    Unlike with C{@implementer} (for complete ones, which mypy-zope checks), methods may return plain values,
    Deferreds or coroutines.

    @raise TypeError: a method the class has in common with an interface takes other parameters than that.
    """

    def declare(cls: type[T]) -> type[T]:
        for interface in interfaces:
            for name, method in _methods(interface).items():
                found = getattr(cls, name, None)
                if found is not None:
                    _checkMethod(cls, found, method)
        declared: type[T] = implementer(*interfaces)(cls)
        return declared

    return declare


def _checkMethod(cls: type, found: Any, method: Method) -> None:
    where = f"{cls.__name__}.{method.__name__}"
    if not callable(found):
        raise TypeError(f"{where} is {found!r}, {method.interface.__name__} says a method")
    wanted = _parameters(method)
    raw = inspect.getattr_static(cls, method.__name__)
    parameters = list(inspect.signature(found).parameters.values())
    if not isinstance(raw, (staticmethod, classmethod)):
        parameters = parameters[1:]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    taken = tuple(p.name for p in positional)
    extra = [
        p for p in parameters if p not in positional and p.default is p.empty and p.kind == p.KEYWORD_ONLY
    ]
    extra += [p for p in positional[len(wanted) :] if p.default is p.empty]
    variable = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    if extra or (taken[: len(wanted)] != wanted and not (variable and taken == wanted[: len(taken)])):
        raise TypeError(f"{where} takes {_listed(taken)}, {method.interface.__name__} says {_listed(wanted)}")


def blocking(method: F) -> F:
    """Mark a provider's method as one that blocks: the server runs it in its thread pool."""
    method.blocking = True  # type: ignore[attr-defined]
    return method
