"""GSSAPI (RFC 4752): Kerberos, with the protection of everything that follows.

Rules:

  - When the tokens of GSS-API are through, the server names the layers that it offers and the largest
    packet that it takes; the client chooses one, and names its own. Both are integrity-protected.
  - Confidentiality counts with the strength of the context's key where the library tells it, else 56 bits
    (C: C{K5_MAX_SSF} of Cyrus SASL); integrity alone counts as 1.
  - The server accepts tickets for its service name alone, whatever else is in the keytab. The user is the
    principal in full, C{alice@REALM}; nobody acts for somebody else.
"""

from __future__ import annotations

from typing import Any

from virnet.limits import SASL_BLOCK_MIN, SASL_PACKET_MAX
from virnet.security.sasl import (
    SERVICE,
    SASLError,
    SASLSession,
    SecurityProperties,
    decodeText,
    requireExtra,
)
from virnet.security.securitylayer import SecurityLayer

MECHANISM = "GSSAPI"

NO_LAYER, INTEGRITY, CONFIDENTIALITY = 1, 2, 4

_SSF_OID = "1.2.840.113554.1.2.2.5.15"
"""C: C{GSS_C_SEC_CONTEXT_SASL_SSF} of MIT Kerberos."""
_DEFAULT_SSF = 56


def gssapi() -> Any:
    """The module gssapi.

    @raise ImportError: it is not installed.
    """
    return requireExtra("gssapi", "gssapi", MECHANISM)


class _GSSAPISession(SASLSession):
    """What both ends share."""

    _context: Any

    def __init__(self, properties: SecurityProperties) -> None:
        super().__init__(MECHANISM)
        self._properties = properties
        self._next = self._token

    def step(self, data: bytes | None) -> bytes | None:
        try:
            return self._next(data or b"")
        except gssapi().exceptions.GSSError as e:
            raise SASLError(_saying(e)) from None

    def _token(self, data: bytes) -> bytes | None:
        raise NotImplementedError

    def _layers(self) -> dict[int, int]:
        """The layers that the connection allows, and the strength of each."""
        strengths = {NO_LAYER: 0, INTEGRITY: 1, CONFIDENTIALITY: self._strength()}
        least = max(0, self._properties.minSSF - self._properties.externalSSF)
        return {each: ssf for each, ssf in strengths.items() if least <= ssf <= self._properties.maxSSF}

    def _strength(self) -> int:
        library = gssapi()
        try:
            found = library.raw.inquire_sec_context_by_oid(self._context, library.OID.from_int_seq(_SSF_OID))
            return int.from_bytes(found[0], "big")
        except (AttributeError, IndexError, library.exceptions.GSSError):
            return _DEFAULT_SSF

    def _read(self, data: bytes, what: str) -> tuple[int, int, bytes]:
        """Read a protected message of the negotiation: layers, size of packets, and what follows."""
        message = self._context.unwrap(data).message
        if len(message) < 4:
            raise SASLError(f"{what} of {len(message)} bytes, want 4")
        return message[0], int.from_bytes(message[1:4], "big"), message[4:]

    def _write(self, layers: int, protecting: bool) -> bytes:
        # Without a layer there are no packets to have a size.
        size = SASL_PACKET_MAX if protecting else 0
        wrapped: bytes = self._context.wrap(bytes([layers]) + size.to_bytes(3, "big"), False).message
        return wrapped

    def _settle(self, layer: int, ssf: int, peerMax: int) -> None:
        """The layer is agreed on.

        @param peerMax: the largest packet that the other end takes.
        """
        if layer != NO_LAYER:
            self.layer = self._makeLayer(layer, peerMax)
        self.ssf = ssf
        self.complete = True

    def _makeLayer(self, layer: int, peerMax: int) -> SecurityLayer:
        confidential = layer == CONFIDENTIALITY
        context = self._context
        block = context.get_wrap_size_limit(min(peerMax, SASL_PACKET_MAX), confidential) if peerMax else 0
        if not SASL_BLOCK_MIN <= block <= SASL_PACKET_MAX:
            raise SASLError(f"the peer takes packets of {peerMax} bytes, which is not enough")
        error = gssapi().exceptions.GSSError
        # The methods of the context do the same, and look up its arguments by name for each packet.
        protect, reveal = gssapi().raw.wrap, gssapi().raw.unwrap

        def wrap(data: bytes) -> bytes:
            wrapped: bytes = protect(context, data, confidential).message
            return wrapped

        def unwrap(packet: bytes) -> bytes:
            try:
                unwrapped = reveal(context, packet)
            except error as e:
                raise ValueError(str(e)) from None
            if confidential and not unwrapped.encrypted:
                raise ValueError("it is not encrypted")
            data: bytes = unwrapped.message
            return data

        return SecurityLayer(wrap, unwrap, block, SASL_PACKET_MAX)


class GSSAPIServerSession(_GSSAPISession):
    """The server's end."""

    def __init__(self, properties: SecurityProperties, credentials: Any) -> None:
        """@param credentials: of L{acceptorCredentials}."""
        super().__init__(properties)
        self._context = gssapi().SecurityContext(creds=credentials, usage="accept")
        self._asked = False

    def step(self, data: bytes | None) -> bytes | None:
        if not data and not self._asked:
            self._asked = True
            return b""
        self._asked = True
        return super().step(data)

    def _token(self, data: bytes) -> bytes | None:
        if self._context.complete:
            # The client has nothing more to say to our last token.
            return self._offer()
        token: bytes | None = self._context.step(data)
        if not self._context.complete:
            return token
        if gssapi().RequirementFlag.anonymity in self._context.actual_flags:
            raise SASLError("an anonymous ticket")
        target = str(self._context.target_name)
        if target.partition("@")[0].partition("/")[0] != SERVICE:
            raise SASLError(f"a ticket for {target}, which is another service")
        return token or self._offer()

    def _offer(self) -> bytes:
        self._next = self._chosen
        offered = self._layers()
        if not offered:
            raise SASLError("no layer is as strong as it has to be")
        return self._write(sum(offered), max(offered) != NO_LAYER)

    def _chosen(self, data: bytes) -> None:
        layer, peerMax, wanted = self._read(data, "a choice of a layer")
        strengths = self._layers()
        if layer not in strengths:
            raise SASLError(f"layer {layer} was not offered")
        user = str(self._context.initiator_name)
        name = decodeText(wanted, "the name")
        if name not in ("", user, user.rpartition("@")[0]):
            raise SASLError(f"{user!r} wants to act for somebody else")
        self._settle(layer, strengths[layer], peerMax)
        self.user = user


class GSSAPIClientSession(_GSSAPISession):
    """The client's end."""

    def __init__(self, properties: SecurityProperties, host: str, credentials: Any = None) -> None:
        """@param host: the server's, as its principal names it.
        @param credentials: a ticket; by default the one of the process's user.
        """
        super().__init__(properties)
        library = gssapi()
        flag = library.RequirementFlag
        flags = flag.mutual_authentication | flag.out_of_sequence_detection | flag.integrity
        if properties.maxSSF > 1:
            flags |= flag.confidentiality
        self._context = library.SecurityContext(
            name=library.Name(f"{SERVICE}@{host}", library.NameType.hostbased_service),
            creds=credentials,
            flags=flags,
            mech=library.MechType.kerberos,
            usage="initiate",
        )
        # It may have to ask a key distribution centre.
        self.blocking = True

    def _token(self, data: bytes) -> bytes:
        token: bytes | None = self._context.step(data or None)
        self.blocking = False
        if self._context.complete:
            if gssapi().RequirementFlag.mutual_authentication not in self._context.actual_flags:
                raise SASLError("the server has not proved who it is")
            self._next = self._choose
        return token or b""

    def _choose(self, data: bytes) -> bytes:
        offered, peerMax, _ = self._read(data, "an offer of layers")
        strengths = {each: ssf for each, ssf in self._layers().items() if offered & each}
        if not strengths:
            raise SASLError("the server offers no layer as strong as it has to be")
        layer = max(strengths)
        answer = self._write(layer, layer != NO_LAYER)
        self._settle(layer, strengths[layer], peerMax)
        self._next = self._ended
        return answer

    def _ended(self, data: bytes) -> bytes:
        raise SASLError("the server asks for more than GSSAPI has")


def _saying(error: Any) -> str:
    """What Kerberos says is wrong, or else GSSAPI, without the numbers that both have for it."""
    said = error.get_all_statuses(error.min_code, False) if error.min_code else []
    said = said or error.get_all_statuses(error.maj_code, True)
    return " ".join(" ".join(said).split()) or str(error)


def acceptorCredentials(keytab: str | None) -> Any:
    """A server's keys.

    @param keytab: the file that they are in; C{None} for the system's.
    @raise SASLError: there are none.
    """
    library = gssapi()
    store = {"keytab": keytab} if keytab is not None else None
    try:
        return library.Credentials(usage="accept", mechs=[library.MechType.kerberos], store=store)
    except library.exceptions.GSSError as e:
        raise SASLError(f"no keys for GSSAPI in {keytab or 'the default keytab'}: {_saying(e)}") from None


def initiatorCredentials(cache: str | None = None) -> Any:
    """A client's ticket.

    @param cache: the name of the credential cache that it is in; C{None} for the user's.
    @return: C{None} if there is none.
    """
    library = gssapi()
    store = {"ccache": cache} if cache is not None else None
    try:
        found = library.Credentials(usage="initiate", mechs=[library.MechType.kerberos], store=store)
        return found if found.lifetime else None
    except library.exceptions.GSSError:
        return None
