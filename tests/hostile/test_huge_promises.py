"""Lengths and counts that promise gigabytes: nothing is allocated for bytes that are not there."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.echo import ECHO, Echo
from tests.peers import CALL, ERROR, OK, ClientSession, ServerSession, message, served
from virnet.limits import MESSAGE_MAX

MIB = 1 << 20


class Promises(SynchronousTestCase):
    """What is promised and not kept."""

    def cost(self, run: Callable[[], object]) -> int:
        """The most memory in use meanwhile."""
        tracemalloc.start()
        try:
            run()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_a_length_word_of_32_mebibytes_from_each_of_a_hundred_clients(self) -> None:
        session = ServerSession(served(ECHO, Echo()))
        sessions = [ServerSession(server=session.server) for _ in range(100)]
        data = (MESSAGE_MAX + 4).to_bytes(4, "big") + bytes(100)

        def promise() -> None:
            for each in sessions:
                each.send(data)

        self.assertLess(self.cost(promise), 2 * MIB)
        self.assertEqual(len(session.server.clients), 101)

    def test_strings_and_arrays_that_are_not_there(self) -> None:
        session = ServerSession(served(ECHO, Echo()))
        for number in (2, 4, 6):
            for count in (16, 17, 4194304, 0x7FFFFFFF, 0xFFFFFFFF):
                data = message(ECHO.number, 1, number, CALL, 1, OK, struct.pack(">I", count))

                def call(data: bytes = data) -> None:
                    (reply,) = session.send(data)
                    self.assertEqual(
                        (reply.status, reply.error[2]), (ERROR, "Unable to decode message payload")
                    )

                self.assertLess(self.cost(call), MIB, (number, count))

    def test_results_that_are_not_there(self) -> None:
        session = ClientSession()
        for count in (4194304, 0xFFFFFFFF):

            def receive(count: int = count) -> None:
                called = session.client.program(ECHO).echo("x")
                (call,) = session.flush()
                session.reply(call, struct.pack(">I", count))
                self.failureResultOf(called)

            self.assertLess(self.cost(receive), MIB)
