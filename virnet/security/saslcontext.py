"""What a server knows to run SASL exchanges with (C: C{virNetSASLContext}).

Rules:

  - A mechanism is there if something is configured that it can check against: SCRAM with a credential
    file, PLAIN with checkers, GSSAPI with a keytab. EXTERNAL is there only if it is asked for by name:
    with it every local user who can connect is somebody.
  - Of those a connection is offered the ones that fit what it goes over, the strongest first.
  - Who has proved who they are still has to be on the list of users, if there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword

from virnet.limits import SASL_MIN_SSF
from virnet.security import saslexternal, saslgssapi, saslplain, saslscram
from virnet.security.allowlist import AllowList
from virnet.security.identity import Identity
from virnet.security.sasl import NotAllowed, SASLError, SASLSession, SecurityProperties, propertiesFor
from virnet.security.scramfile import CredentialFileError, ScramFile

MECHANISMS = (
    saslgssapi.MECHANISM,
    saslexternal.MECHANISM,
    *saslscram.MECHANISMS,
    saslplain.MECHANISM,
)
"""All that there are, the strongest first."""


class SASLContext:
    """A server's mechanisms, and who may enter.

    @ivar mechanisms: the configured mechanisms, the strongest first.
    @ivar minSSF: bits of protection that a connection without any other needs.
    """

    def __init__(
        self,
        *,
        scramFile: ScramFile | str | os.PathLike[str] | None = None,
        checkers: Iterable[ICredentialsChecker] = (),
        keytab: str | os.PathLike[str] | None = None,
        mechanisms: Sequence[str] | None = None,
        allowedUsers: Iterable[str] | None = None,
        minSSF: int = SASL_MIN_SSF,
    ) -> None:
        """@param scramFile: see L{virnet.security.scramfile}; made with C{virnet sasl passwd}.
        @param checkers: of C{twisted.cred}; those are used that take C{IUsernamePassword}.
        @param keytab: where the keys of C{libvirt/HOST} are.
        @param mechanisms: only these; by default all that the other arguments make possible. With
            C{GSSAPI} and no C{keytab} the system's is used.
        @param allowedUsers: patterns (L{AllowList}); C{None} lets in everybody who authenticates (C:
            C{sasl_allowed_username_list}).
        @param minSSF: bits of protection that a connection other than UNIX and TLS needs (C: C{tcp_min_ssf}).
        @raise ValueError: a mechanism is not known, or has nothing to check against, or there is none.
        @raise ImportError: a mechanism needs a package that is not installed.
        @raise SASLError: there are no keys in the keytab.
        @raise CredentialFileError: the credential file cannot be used.
        """
        if scramFile is not None and not isinstance(scramFile, ScramFile):
            scramFile = ScramFile(scramFile)
        self._scramFile = scramFile
        self._checkers = [each for each in checkers if IUsernamePassword in each.credentialInterfaces]
        possible: set[str] = set()
        if scramFile is not None:
            saslscram.scramp()
            scramFile.refresh()
            possible.update(saslscram.MECHANISMS)
        if self._checkers:
            possible.add(saslplain.MECHANISM)
        if keytab is not None:
            possible.add(saslgssapi.MECHANISM)
        if mechanisms is not None:
            possible |= {saslgssapi.MECHANISM, saslexternal.MECHANISM}
            for each in mechanisms:
                if each not in MECHANISMS:
                    raise ValueError(f"SASL mechanism {each!r} is not one of {', '.join(MECHANISMS)}")
                if each not in possible:
                    raise ValueError(f"SASL mechanism {each} has nothing to check passwords against")
            possible.intersection_update(mechanisms)
        if not possible:
            raise ValueError("there is nothing to check passwords or tickets against")
        self.mechanisms = tuple(each for each in MECHANISMS if each in possible)
        self._keytab = None if keytab is None else os.fspath(keytab)
        if saslgssapi.MECHANISM in possible:
            # Better now than when the first client comes.
            saslgssapi.acceptorCredentials(self._keytab)
        self._allowed = None if allowedUsers is None else AllowList(allowedUsers)
        self.minSSF = minSSF

    def offered(self, identity: Identity) -> list[str]:
        """The mechanisms for a connection, the strongest first.

        @param identity: who is known to be there already, and over what.
        """
        properties = self._properties(identity)
        return [each for each in self.mechanisms if self._fits(each, properties, identity)]

    def session(self, mechanism: str, identity: Identity) -> SASLSession:
        """Begin an exchange.

        @raise SASLError: the mechanism was not offered, or cannot be used now.
        """
        properties = self._properties(identity)
        if mechanism not in self.mechanisms or not self._fits(mechanism, properties, identity):
            raise SASLError(f"mechanism {mechanism[:64]!r} was not offered")
        if mechanism == saslgssapi.MECHANISM:
            return saslgssapi.GSSAPIServerSession(properties, saslgssapi.acceptorCredentials(self._keytab))
        if mechanism == saslexternal.MECHANISM:
            name = saslexternal.externalName(identity)
            assert name is not None, "it would not fit"
            return saslexternal.ExternalServerSession(name)
        if mechanism == saslplain.MECHANISM:
            return saslplain.PlainServerSession(self._checkers)
        file = self._scramFile
        assert file is not None, "it would not be configured"
        try:
            file.refresh()
        except CredentialFileError as e:
            raise SASLError(str(e)) from e
        return saslscram.ScramServerSession(mechanism, lambda user: file.keys(mechanism, user))

    def check(self, session: SASLSession, identity: Identity) -> str:
        """Judge an exchange that is complete.

        @return: who the client is.
        @raise NotAllowed: but is not on the list.
        @raise SASLError: the protection is too weak.
        """
        properties = self._properties(identity)
        user = session.user
        assert user is not None, "an exchange that is complete has a user"
        if session.ssf < properties.minSSF:
            raise SASLError(f"negotiated SSF {session.ssf} was not strong enough")
        if self._allowed is not None and not self._allowed.allows(user):
            raise NotAllowed(user)
        return user

    def _properties(self, identity: Identity) -> SecurityProperties:
        return propertiesFor(identity.transport, self.minSSF)

    def _fits(self, mechanism: str, properties: SecurityProperties, identity: Identity) -> bool:
        if mechanism == saslgssapi.MECHANISM:
            return True
        if properties.minSSF > 0:
            # None of the others can protect anything.
            return False
        if mechanism == saslplain.MECHANISM:
            return properties.plaintext
        if mechanism == saslexternal.MECHANISM:
            return saslexternal.externalName(identity) is not None
        return True
