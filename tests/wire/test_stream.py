"""The two tables of a stream's life, over every state and packet, and the payload of a hole."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.messages import message
from virnet.errors import XDRError
from virnet.wire.message import CONTINUE, ERROR, OK, STREAM, STREAM_HOLE, decodeHeader
from virnet.wire.stream import (
    CLIENT,
    SERVER,
    ClientAction,
    ClientState,
    Packet,
    ServerAction,
    ServerState,
    classify,
    decodeHole,
    encodeHole,
)

KEY = (0x20008086, 1, 208)


class Packets(SynchronousTestCase):
    """What a packet is."""

    def test_by_type_status_and_size(self) -> None:
        for type, status, payload, packet in (
            (STREAM, CONTINUE, b"x", Packet.DATA),
            (STREAM, CONTINUE, b"", Packet.EMPTY),
            (STREAM, OK, b"", Packet.OK),
            (STREAM, OK, b"ignored", Packet.OK),
            (STREAM, ERROR, b"", Packet.ERROR),
            (STREAM, ERROR, b"error", Packet.ERROR),
            (STREAM, 3, b"", Packet.UNKNOWN),
            (STREAM, -1, b"x", Packet.UNKNOWN),
            (STREAM_HOLE, CONTINUE, bytes(12), Packet.HOLE),
            (STREAM_HOLE, OK, bytes(12), Packet.OK),
            (STREAM_HOLE, ERROR, bytes(12), Packet.ERROR),
            (STREAM_HOLE, 77, bytes(12), Packet.UNKNOWN),
        ):
            header = decodeHeader(message((*KEY, type, 1, status), payload))
            self.assertIs(classify(header), packet, header)

    def test_a_hole_of_one_mebibyte_is_a_hyper_and_no_flags(self) -> None:
        self.assertEqual(encodeHole(1 << 20).hex(), "0000000000100000" + "00000000")

    def test_holes_survive(self) -> None:
        for length in (1, 1 << 20, (1 << 63) - 1):
            data = message((*KEY, STREAM_HOLE, 1, CONTINUE), encodeHole(length))
            self.assertEqual(decodeHole(data), length)

    def test_holes_that_are_none(self) -> None:
        for payload in (b"", bytes(11), bytes(12), b"\xff" * 8 + bytes(4), bytes(7) + b"\x01\0\0\0\x01"):
            data = message((*KEY, STREAM_HOLE, 1, CONTINUE), payload)
            self.assertRaises(XDRError, decodeHole, data)


class Tables(SynchronousTestCase):
    """Every state a stream can be in while it is known has a rule for every packet."""

    def test_the_servers_table_is_complete(self) -> None:
        states = set(ServerState) - {ServerState.CLOSED}
        self.assertEqual(set(SERVER), set(product(states, Packet)))

    def test_the_clients_table_is_complete(self) -> None:
        states = set(ClientState) - {ClientState.FAILED, ClientState.CLOSED}
        self.assertEqual(set(CLIENT), set(product(states, Packet)))

    def test_the_server_answers_no_packet_twice(self) -> None:
        # What ends a stream is answered; after it the stream is closed or takes nothing but an abort.
        for (_, packet), (state, action) in SERVER.items():
            if action in (ServerAction.ABORT, ServerAction.REFUSE):
                self.assertIs(state, ServerState.CLOSED)
            if action is ServerAction.FINISH:
                self.assertIs(packet, Packet.OK)
                self.assertIs(state, ServerState.FINISHING)

    def test_R065_data_never_completes_what_waits_for_a_confirmation(self) -> None:
        for packet in (Packet.DATA, Packet.EMPTY, Packet.HOLE):
            state, action = CLIENT[ClientState.CLOSING, packet]
            self.assertIs(state, ClientState.CLOSING)
            self.assertIsNot(action, ClientAction.CONFIRM)

    def test_data_behind_the_end_of_the_data_is_dropped(self) -> None:
        for state in (ClientState.ENDED, ClientState.CLOSING):
            for packet in (Packet.DATA, Packet.HOLE):
                self.assertEqual(CLIENT[state, packet], (state, ClientAction.DROP))

    def test_a_failure_is_the_servers_last_word_in_every_state(self) -> None:
        for state in set(ClientState) - {ClientState.FAILED, ClientState.CLOSED}:
            self.assertEqual(CLIENT[state, Packet.ERROR], (ClientState.FAILED, ClientAction.FAIL))

    def test_a_confirmation_nobody_waits_for_is_a_fault(self) -> None:
        for state in (ClientState.OPENING, ClientState.OPEN, ClientState.ENDED):
            self.assertIs(CLIENT[state, Packet.OK][1], ClientAction.FAULT)
        self.assertIs(CLIENT[ClientState.CLOSING, Packet.OK][1], ClientAction.CONFIRM)
