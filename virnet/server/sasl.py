"""SASL at a server: procedures 67 to 69 of REMOTE, for one client (``wire.md`` section 9).

Rules:

  - INIT begins an exchange, START names its mechanism, STEP goes on until it is complete. A second INIT
    is refused and leaves the exchange as it is; anything else that fails ends it, and INIT may begin
    another, as often as the client likes.
  - Every failure is answered alike, whatever it was. The log and the probes say which.
  - An exchange whose step is still being judged takes no other step.
  - Who has got in is asked for nothing more. The security layer, if one was negotiated, protects all that
    follows the last reply; that reply is in clear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import ensureDeferred
from twisted.logger import Logger
from zope.interface import implementer

from virnet.limits import SASL_DATA_MAX
from virnet.programs.values import AuthSASLStartRet
from virnet.security.sasl import NotAllowed, SASLError, SASLSession
from virnet.security.saslcontext import SASLContext
from virnet.server.authentication import (
    AUTH_SASL,
    Authenticator,
    IAuthenticator,
    IClientAuthentication,
    failure,
)

if TYPE_CHECKING:
    from virnet.server.client import ServerClient


@implementer(IClientAuthentication)
class SASLAuthentication:
    """Has the clients of a service authenticate with SASL.

    @ivar context: the mechanisms and who may enter.
    """

    authType = AUTH_SASL

    def __init__(self, context: SASLContext) -> None:
        self.context = context

    def authenticatorFor(self, client: ServerClient) -> IAuthenticator:
        """Make what answers one client."""
        return SASLAuthenticator(client, self.context)


class SASLAuthenticator(Authenticator):
    """One client's exchanges."""

    log = Logger()
    authType = AUTH_SASL

    def __init__(self, client: ServerClient, context: SASLContext) -> None:
        super().__init__(client)
        self._context = context
        self._initialized = False
        self._session: SASLSession | None = None
        self._busy = False

    def authSASLInit(self) -> str:
        """Begin an exchange: say which mechanisms there are."""
        if self._initialized:
            raise self._refuse("an exchange is going on already")
        offered = self._context.offered(self.client.identity)
        if not offered:
            raise self._refuse(
                "no mechanism of "
                + ", ".join(self._context.mechanisms)
                + " is strong enough for this connection"
            )
        self._initialized = True
        return ",".join(offered)

    def authSASLStart(self, mech: str, nil: int, data: bytes) -> Any:
        """Choose a mechanism, and take its first step."""
        if not self._initialized or self._session is not None:
            raise self._end("START without INIT" if not self._initialized else "a second START")
        try:
            self._session = self._context.session(mech, self.client.identity)
        except SASLError as e:
            raise self._end(str(e)) from None
        return self._step(self._session, None if nil else data)

    def authSASLStep(self, nil: int, data: bytes) -> Any:
        """Take a further step."""
        if self._session is None or self._busy:
            raise self._end(
                "STEP without START" if self._session is None else "a step before the last one's answer"
            )
        return self._step(self._session, None if nil else data)

    def stop(self) -> None:
        """The connection is gone: so is the exchange."""
        self._forget()

    def _step(self, session: SASLSession, data: bytes | None) -> Any:
        self._busy = True
        try:
            answer = session.step(data)
        except SASLError as e:
            raise self._end(f"{session.mechanism}: {e}") from None
        except Exception:
            self.log.failure("{peer}: {mechanism} failed", peer=self.client.peer, mechanism=session.mechanism)
            raise self._end(f"{session.mechanism}: internal error") from None
        if hasattr(answer, "__await__"):
            return ensureDeferred(self._wait(session, answer))
        return self._answer(session, answer)

    async def _wait(self, session: SASLSession, answer: Any) -> AuthSASLStartRet:
        try:
            data = await answer
        except SASLError as e:
            raise self._end(f"{session.mechanism}: {e}", session) from None
        except Exception:
            self.log.failure("{peer}: {mechanism} failed", peer=self.client.peer, mechanism=session.mechanism)
            raise self._end(f"{session.mechanism}: internal error", session) from None
        if self._session is not session:
            raise self._refuse("the exchange was given up")
        return self._answer(session, data)

    def _answer(self, session: SASLSession, data: bytes | None) -> AuthSASLStartRet:
        self._busy = False
        if data is not None and len(data) > SASL_DATA_MAX:
            raise self._end(f"SASL negotiation data too long: {len(data)} bytes")
        if session.complete:
            self._finish(session)
        return AuthSASLStartRet(int(session.complete), int(data is None), data or b"")

    def _finish(self, session: SASLSession) -> None:
        try:
            user = self._context.check(session, self.client.identity)
        except NotAllowed as e:
            self._forget()
            self.deny(str(e), "not on the list of SASL users")
            raise failure() from None
        except SASLError as e:
            raise self._end(f"{session.mechanism}: {e}") from None
        self._forget()
        self.client.updateIdentity(saslUser=user)
        if session.layer is not None:
            self.client.secureAfterReply(session.layer)
        self.allow(user)

    def _refuse(self, reason: str) -> Exception:
        self.fail(reason)
        return failure()

    def _end(self, reason: str, session: SASLSession | None = None) -> Exception:
        """Something failed: the exchange is over.

        @param session: the one that it happened in, which may be over already.
        """
        if session is None or session is self._session:
            self._forget()
        return self._refuse(reason)

    def _forget(self) -> None:
        self._initialized = self._busy = False
        self._session = None
