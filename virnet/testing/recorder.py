"""What stands between a server and what it serves: it records the calls, and answers some of them itself."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from zope.interface import implementer

from virnet.errors import ErrorNumber, RemoteError, XDRError
from virnet.hypervisor.refusals import notSupported
from virnet.programs.base import IMethodSource, Procedure


class Recorded(NamedTuple):
    """A call that reached the server.

    @ivar name: the procedure, like C{domainCreate}.
    """

    name: str
    args: tuple[Any, ...]


class Recorder:
    """Wraps the factory that is given to a C{ServerProgram}. Methods that block run in the reactor's thread.

    @ivar calls: the calls that came, in order; clear it as you like.
    @ivar answers: procedure name to what answers it instead of the server: an exception is raised, something
        callable is called with the arguments (and may return a Deferred), anything else is returned.
    """

    def __init__(self, factory: Callable[[Any], Any]) -> None:
        """@param factory: makes a provider for each client."""
        self.calls: list[Recorded] = []
        self.answers: dict[str, Any] = {}
        self._factory = factory

    def __call__(self, client: Any) -> _Recording:
        """Make the provider for a client."""
        return _Recording(self, self._factory(client))

    @property
    def names(self) -> list[str]:
        """The procedures that were called."""
        return [call.name for call in self.calls]

    def records(self, name: str) -> bool:
        """Whether the calls of a procedure are recorded."""
        return True

    def answer(self, name: str, args: tuple[Any, ...]) -> Any:
        """Answer a call from C{answers}."""
        answer = self.answers[name]
        if isinstance(answer, BaseException):
            raise answer
        return answer(*args) if callable(answer) else answer


def _fitting(procedure: Procedure, answer: Any) -> Any:
    """Refuse an answer that the procedure cannot have, in words that reach the author of the test."""
    if isinstance(answer, (Deferred, Coroutine)):
        return answer
    try:
        procedure.encodeRet(answer)
    except XDRError as error:
        text = f"answers[{procedure.name!r}] does not fit: {error}"
        raise RemoteError.of(ErrorNumber.INTERNAL_ERROR, text) from error
    return answer


@implementer(IMethodSource)
class _Recording:
    """The provider for one client."""

    def __init__(self, recorder: Recorder, provider: Any) -> None:
        self._recorder = recorder
        self._provider = provider

    def methodFor(self, procedure: Procedure) -> Callable[..., Any]:
        """Find what executes a procedure, and have it recorded."""
        recorder, name = self._recorder, procedure.name

        # The server asks once for all calls of a client, but the answers may change in between.
        def method(*args: Any) -> Any:
            if recorder.records(name):
                recorder.calls.append(Recorded(name, args))
            if name in recorder.answers:
                return _fitting(procedure, recorder.answer(name, args))
            return self._found(procedure)(*args)

        return method

    def _found(self, procedure: Procedure) -> Callable[..., Any]:
        found: Callable[..., Any] | None
        if IMethodSource.providedBy(self._provider):
            found = self._provider.methodFor(procedure)
        else:
            found = getattr(self._provider, procedure.name, None)
        if found is None:
            raise notSupported(procedure)
        return found
