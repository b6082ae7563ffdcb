"""
One served program: which object answers a procedure, and what becomes of what it does.

  - A provider is made for each connection by the program's factory, at the first call for the program.
  - A procedure is answered by the provider's method of its name. What a provider does not have answers
    C{NO_SUPPORT}. A provider with C{methodFor} is asked instead, and may refuse by raising.
  - On a read-only connection a method is not called if the program's table says that the call changes
    something (C{acl}). Of a program without such tables nobody knows, and a provider with C{methodFor} judges
    itself: what these allow is their affair.
  - A method marked L{blocking<virnet.programs.base.blocking>} runs in the server's thread pool.
  - A L{RemoteError} becomes the error reply as it is. Any other exception is logged with its traceback and
    becomes C{INTERNAL_ERROR} without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.programs.base import Procedure, Program
from virnet.security.permissions import looks, needed

if TYPE_CHECKING:
    from virnet.server.client import ServerClient

Method = Callable[..., Any]


class ServerProgram:
    """A program and how to get what answers it.

    @ivar program: the program's tables.
    """

    def __init__(self, program: Program[Any], factory: Callable[[ServerClient], object]) -> None:
        """@param program: what is served.
        @param factory: called with the connection, once for each; returns the provider, or a tuple or
            list of providers of which the first that has a method answers.
        """
        self.program = program
        self.factory = factory

    def methods(self, client: ServerClient) -> Callable[[Procedure], Method]:
        """Make the provider for a connection and return how to find its methods.

        @return: called with a procedure it returns the bound method, or raises L{RemoteError}.
        """
        provider = self.factory(client)
        providers: Iterable[object] = provider if isinstance(provider, (tuple, list)) else (provider,)
        finders = [getattr(each, "methodFor", None) or _attributeOf(each, client) for each in providers]

        def find(procedure: Procedure) -> Method:
            for finder in finders:
                method: Method | None = finder(procedure)
                if method is not None:
                    return method
            raise notSupported(procedure)

        return find


def _attributeOf(provider: object, client: ServerClient) -> Callable[[Procedure], Method | None]:
    def find(procedure: Procedure) -> Method | None:
        method: Method | None = getattr(provider, procedure.name, None)
        return method if method is None or not procedure.acl else _guarded(procedure, method, client)

    return find


def _guarded(procedure: Procedure, method: Method, client: ServerClient) -> Method:
    """Have a method called only if the connection is not read-only, or the call only looks."""

    @wraps(method)
    def judged(*args: Any) -> Any:
        if client.readonly and not all(looks(each.partition(":")[2]) for each in needed(procedure, args)):
            name = _functionName(procedure)
            raise RemoteError.of(ErrorNumber.OPERATION_DENIED, f"read only access prevents {name}")
        return method(*args)

    return judged


def notSupported(procedure: Procedure) -> RemoteError:
    """What a procedure answers that nobody implements; names the C function as libvirt does."""
    return RemoteError.of(ErrorNumber.NO_SUPPORT, _functionName(procedure))


def _functionName(procedure: Procedure) -> str:
    name = procedure.name
    return f"vir{name[:1].upper()}{name[1:]}"


def asRemoteError(error: BaseException) -> RemoteError:
    """The error reply for an exception that is not a L{RemoteError}: its type and text, no traceback."""
    text = str(error)
    if not text:
        # C: what libvirtd answers when an implementation failed and said nothing.
        return RemoteError(
            ErrorNumber.INTERNAL_ERROR,
            "Library function returned error but did not set virError",
            ErrorDomain.RPC,
            int1=0,
            int2=0,
        )
    return RemoteError.of(ErrorNumber.INTERNAL_ERROR, f"{type(error).__name__}: {text}", ErrorDomain.RPC)
