"""A program as an object: each procedure a method that sends the call.

The class is made once for each program from its tables, so that a method is an ordinary attribute and a
wrong argument an ordinary C{TypeError}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from zope.interface import directlyProvides

from virnet.programs.base import Procedure, Program
from virnet.programs.typedparams import TypedParams
from virnet.wire.message import rpcError

I = TypeVar("I")  # noqa: E741 - an interface, as zope names them

Call = Callable[..., "Deferred[Any]"]

_LIMIT = "nparams"
"""The argument by which a caller says how many typed parameters it can take; 0 asks how many there are."""

_classes: WeakKeyDictionary[Any, type] = WeakKeyDictionary()


class ClientProgram:
    """Base of the classes made here (C: C{virNetClientProgram})."""

    def __init__(self, call: Call) -> None:
        """@param call: takes a procedure, its arguments and the descriptors that go with it, where it has
        any; sends the call and returns the Deferred of its result.
        """
        self._call = call


def provide(program: Program[I], call: Call) -> I:
    """Make an object that calls a program's procedures.

    @param call: see L{ClientProgram}.
    @return: a provider of the program's interface.
    """
    made = _classes.get(program)
    if made is None:
        methods = {each.name: _method(each) for each in program.procedures.values()}
        made = _classes[program] = type(f"{program.name}Client", (ClientProgram,), methods)
    provider = made(call)
    directlyProvides(provider, program.interface)
    return cast(I, provider)


def _checkCount(result: Any, asked: int) -> Any:
    """Refuse more typed parameters than were asked for: the caller counts on its number (R157)."""
    params = result if isinstance(result, TypedParams) else getattr(result, "params", ())
    if len(params) > asked > 0:
        raise rpcError(f"too many parameters in the reply: {len(params)}, {asked} were asked for")
    return result


def _method(procedure: Procedure) -> Callable[..., Deferred[Any]]:
    names = tuple(name for name, _ in procedure.args)
    arity = len(names)
    # libvirt's API reserves `flags` everywhere; nearly every caller means none.
    optional = arity - 1 if arity and names[-1] == "flags" else arity

    def method(self: ClientProgram, *args: Any, **keywords: Any) -> Deferred[Any]:
        if keywords or len(args) != arity:
            args = _bind(args, keywords)
        return self._call(procedure, args)

    def methodWithLimit(self: ClientProgram, *args: Any, **keywords: Any) -> Deferred[Any]:
        bound = _bind(args, keywords)
        return self._call(procedure, bound).addCallback(_checkCount, bound[names.index(_LIMIT)])

    def methodWithDescriptors(
        self: ClientProgram, *args: Any, fds: Sequence[int] = (), **keywords: Any
    ) -> Deferred[Any]:
        return self._call(procedure, _bind(args, keywords), fds)

    def _bind(args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
        if len(args) > arity:
            raise TypeError(f"{procedure.name}({', '.join(names)}) takes {arity} arguments, got {len(args)}")
        bound = list(args)
        for name in names[len(args) :]:
            if name in keywords:
                bound.append(keywords.pop(name))
            elif name == "flags" and len(bound) == optional:
                bound.append(0)
            else:
                raise TypeError(f"{procedure.name}({', '.join(names)}): argument {name!r} is missing")
        if keywords:
            name = next(iter(keywords))
            problem = "is given twice" if name in names else "is unknown"
            raise TypeError(f"{procedure.name}({', '.join(names)}): argument {name!r} {problem}")
        return tuple(bound)

    made: Callable[..., Deferred[Any]] = method
    if procedure.fds == "call":
        made = methodWithDescriptors
    elif _LIMIT in names:
        made = methodWithLimit
    made.__name__ = procedure.name
    made.__qualname__ = f"{procedure.program.name}.{procedure.name}"
    made.__doc__ = f"Call procedure {procedure.number} with ({', '.join(names)})."
    return made
