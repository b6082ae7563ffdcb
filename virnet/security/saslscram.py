"""SCRAM (RFC 5802, 7677): a password proved at both ends and never sent, over scramp.

The server knows salted keys alone. For a user that it does not know it goes through the same exchange
with keys that nobody has the password of, so that names cannot be tried out: only the last step fails,
for either reason.

A proof holds for one exchange: its nonce is new each time, and what was heard of another exchange is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from unicodedata import normalize

from virnet.limits import SCRAM_ITERATIONS_MAX, SCRAM_MESSAGE_MAX
from virnet.security.sasl import SASLError, SASLSession, decodeText, requireExtra

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1")
"""The strongest first."""


class ScramKeys(NamedTuple):
    """What a server keeps of a password, for one mechanism. In the order in which scramp takes it."""

    salt: bytes
    storedKey: bytes
    serverKey: bytes
    iterations: int


def scramp() -> Any:
    """The module scramp.

    @raise ImportError: it is not installed.
    """
    return requireExtra("scramp", "sasl", "SCRAM")


def prepare(text: str) -> str:
    """What SCRAM makes of a name or a password (SASLprep, RFC 4013).

    @raise SASLError: nothing is left of it, or it holds what is prohibited.
    """
    library = scramp()
    try:
        prepared: str = library.utils.saslprep(text)
    except library.ScramException as e:
        raise SASLError(f"not allowed in a name or password: {e}") from None
    if not prepared:
        raise SASLError("a name or password must not be empty")
    return prepared


def makeKeys(mechanism: str, password: str, iterations: int, salt: bytes | None = None) -> ScramKeys:
    """Make what a server keeps of a password.

    @param iterations: how often it is hashed.
    @param salt: some of one's own instead of a random one.
    @raise SASLError: it is no password, or the iterations are too few.
    """
    library = scramp()
    prepared = prepare(password)
    try:
        return ScramKeys(*library.ScramMechanism(mechanism).make_auth_info(prepared, iterations, salt))
    except library.ScramException as e:
        raise SASLError(str(e)) from None


class _ScramSession(SASLSession):
    _next: Callable[[str], str | None]

    def _take(self, data: bytes) -> bytes | None:
        try:
            answer = self._next(decodeText(data, "a SCRAM message"))
        except scramp().ScramException as e:
            raise SASLError(_saying(e)) from None
        except (ArithmeticError, LookupError, TypeError, ValueError) as e:
            # scramp takes messages apart before it looks at all of their parts.
            raise SASLError(f"a SCRAM message that makes no sense ({e})") from None
        return None if answer is None else answer.encode()


def _saying(error: Exception) -> str:
    """What scramp says, without the word that it has for the peer."""
    return str(error.args[0]).rstrip(".") if error.args else str(error)


class ScramServerSession(_ScramSession):
    """The server's end."""

    def __init__(self, mechanism: str, keysOf: Callable[[str], ScramKeys]) -> None:
        """@param keysOf: called with a name, gives its keys; also for a name that nobody has."""
        super().__init__(mechanism)

        def keys(name: str) -> tuple[Any, ...]:
            self._name = name
            return tuple(keysOf(name))

        self._scram = scramp().ScramMechanism(mechanism).make_server(keys)
        self._next = self._first
        self._asked = False

    def step(self, data: bytes | None) -> bytes | None:
        if data is None and not self._asked:
            self._asked = True
            return None
        self._asked = True
        data = data or b""
        # One character may stand for eighteen.
        if (
            len(data) > SCRAM_MESSAGE_MAX
            or len(normalize("NFKC", data.decode("utf-8", "replace"))) > SCRAM_MESSAGE_MAX
        ):
            raise SASLError(f"a SCRAM message of more than {SCRAM_MESSAGE_MAX} bytes or characters")
        return self._take(data)

    def _first(self, message: str) -> str:
        self._next = self._final
        self._scram.set_client_first(message)
        answer: str = self._scram.get_server_first()
        return answer

    def _final(self, message: str) -> str:
        library = scramp()
        try:
            self._scram.set_client_final(message)
        except library.ScramException as e:
            if e.server_error is not library.core.ServerError.INVALID_PROOF:
                raise
            # For the server's log: the client is not told.
            raise SASLError(f"no such user, or wrong password: {self._name[:100]!r}") from None
        answer: str = self._scram.get_server_final()
        self.user = self._name
        self.complete = True
        return answer


class ScramClientSession(_ScramSession):
    """The client's end."""

    def __init__(self, mechanism: str, user: str, password: str) -> None:
        super().__init__(mechanism)
        library = scramp()
        try:
            self._scram = library.ScramClient([mechanism], user, password)
        except library.ScramException as e:
            raise SASLError(str(e)) from None
        self._next = self._challenge
        self._begun = False
        # It hashes as often as the server says.
        self.blocking = True

    def step(self, data: bytes | None) -> bytes | None:
        if not self._begun:
            self._begun = True
            answer: str = self._scram.get_client_first()
            return answer.encode()
        if self.complete:
            raise SASLError(f"the server asks for more than {self.mechanism} has")
        return self._take(data or b"")

    def _challenge(self, message: str) -> str:
        self._scram.set_server_first(message)
        iterations = int(self._scram.iterations)
        if iterations > SCRAM_ITERATIONS_MAX:
            raise SASLError(f"the server wants {iterations} iterations, more than {SCRAM_ITERATIONS_MAX}")
        self._next = self._verify
        answer: str = self._scram.get_client_final()
        return answer

    def _verify(self, message: str) -> None:
        self._scram.set_server_final(message)
        self.complete = True
