"""The security layer that a SASL mechanism may leave on a connection (RFC 4422, section 3.7).

Rules:

  - Each packet is four bytes of length, big-endian, and the protected bytes. Packets know nothing of RPC
    messages: one may hold several, or a part of one.
  - What is sent is cut into blocks that the peer has said it can take. A packet larger than we have said
    we can take, and one that does not verify, end the connection; its length is judged before its bytes
    have come.
  - Bytes that came together are decoded together, whatever becomes of the messages in them: those that
    may not be handled yet wait where messages wait without a layer.
"""

from __future__ import annotations

from collections.abc import Callable

from virnet.errors import RemoteProtocolError

_LENGTH = 4


class SecurityLayer:
    """Protects what is sent, and checks what comes.

    @ivar blockSize: bytes of a message that one packet holds at the most.
    """

    def __init__(
        self,
        wrap: Callable[[bytes], bytes],
        unwrap: Callable[[bytes], bytes],
        blockSize: int,
        packetMax: int,
    ) -> None:
        """@param wrap: protects a block.
        @param unwrap: checks a packet and gives its block; raises C{ValueError} for one that is no good.
        @param blockSize: at least 1.
        @param packetMax: the largest packet that is accepted, without its length.
        """
        self.blockSize = blockSize
        self._wrap = wrap
        self._unwrap = unwrap
        self._packetMax = packetMax
        self._received = bytearray()

    def encode(self, data: bytes) -> bytes:
        """Protect bytes.

        @return: whole packets, to be sent as they are and in this order.
        """
        size = self.blockSize
        if len(data) <= size:
            packet = self._wrap(data)
            return len(packet).to_bytes(_LENGTH, "big") + packet
        view = memoryview(data)
        pieces: list[bytes] = []
        for start in range(0, len(data), size):
            packet = self._wrap(bytes(view[start : start + size]))
            pieces += (len(packet).to_bytes(_LENGTH, "big"), packet)
        return b"".join(pieces)

    def decode(self, data: bytes) -> bytes:
        """Take received bytes.

        @return: what the packets hold that are complete by now; the rest is kept.
        @raise RemoteProtocolError: a packet is too large, or is no good.
        """
        received = self._received
        received += data
        start = 0
        blocks = []
        while len(received) - start >= _LENGTH:
            length = int.from_bytes(received[start : start + _LENGTH], "big")
            if length > self._packetMax:
                raise RemoteProtocolError(
                    f"SASL packet of {length} bytes received, more than the {self._packetMax} agreed on"
                )
            end = start + _LENGTH + length
            if len(received) < end:
                break
            try:
                blocks.append(self._unwrap(bytes(received[start + _LENGTH : end])))
            except ValueError as e:
                raise RemoteProtocolError(f"failed to decode SASL packet: {e}") from e
            start = end
        del received[:start]
        return b"".join(blocks)
