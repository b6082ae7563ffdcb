"""EXTERNAL (RFC 4422, appendix A): who the client is, is known already.

That is the user of the process at the other end of a UNIX socket, or the distinguished name in a TLS client's
verified certificate. The client may name itself, and then has to name just that.
"""

from __future__ import annotations

from virnet.security.identity import Identity
from virnet.security.sasl import SASLError, SASLSession, decodeText

MECHANISM = "EXTERNAL"


def externalName(identity: Identity) -> str | None:
    """What an identity is called.

    @return: a user's name, or its number if it has none; a distinguished name; C{None} where nothing is
        proved.
    """
    if identity.x509dname is not None:
        return identity.x509dname
    if identity.uid is not None:
        return identity.userName or str(identity.uid)
    return None


class ExternalServerSession(SASLSession):
    """The server's end."""

    def __init__(self, name: str) -> None:
        """@param name: who the client is."""
        super().__init__(MECHANISM)
        self._name = name
        self._asked = False

    def step(self, data: bytes | None) -> bytes | None:
        if data is None and not self._asked:
            self._asked = True
            return b""
        wanted = decodeText(data or b"", "the name")
        if wanted not in ("", self._name):
            raise SASLError(f"{self._name!r} wants to act for somebody else")
        self.user = self._name
        self.complete = True
        return None


class ExternalClientSession(SASLSession):
    """The client's end."""

    def __init__(self) -> None:
        super().__init__(MECHANISM)

    def step(self, data: bytes | None) -> bytes | None:
        if self.complete:
            raise SASLError("the server asks for more than EXTERNAL has")
        self.complete = True
        return b""
