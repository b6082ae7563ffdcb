"""An ordinary conversation with one bit flipped, in either direction."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.conversation import CALLS, defaultServer
from tests.peers import REPLY, ClientSession, Message, ServerSession, callNamed, message, split
from virnet.errors import VirnetError
from virnet.programs import REMOTE

FLIPS = 400


def flipped(data: bytes, bit: int) -> bytes:
    """The same but for one bit."""
    place = bit // 8
    return data[:place] + bytes([data[place] ^ 1 << bit % 8]) + data[place + 1 :]


class ToTheServer(SynchronousTestCase):
    """The client's side of it."""

    def test_the_server_answers_or_closes_and_serves_on(self) -> None:
        stream = b"".join(CALLS)
        random = Random(1)
        server = defaultServer()
        witness = ServerSession(server=server)
        for bit in random.sample(range(len(stream) * 8), FLIPS):
            session = ServerSession(server=server)
            came = session.send(flipped(stream, bit))
            if not session.closed:
                # It waits for the rest of a message that was made longer, or goes on as ever.
                session.lose()
            self.assertTrue(len([each for each in came if each.type == REPLY]) <= len(CALLS), bit)
            self.assertEqual([each.value for each in self.flushLoggedErrors()], [], bit)
            (reply,) = witness.send(callNamed(REMOTE, "authList", bit))
            self.assertEqual(reply.serial, bit)
        self.assertEqual(list(server.clients.values()), [witness.client])


class ToTheClient(SynchronousTestCase):
    """The server's side of it: what the server answers to the conversation, as the client's own calls."""

    def converse(self, data: bytes) -> list[Any]:
        """Have a client make its calls and receive the data as their answers; return what became of each."""
        session = ClientSession()
        outcomes: list[Any] = []
        for call in split(b"".join(CALLS)):
            procedure = REMOTE.procedures[call.procedure]
            called: Deferred[Any] = session.client.call(procedure, procedure.decodeArgs(call.payload))
            called.addBoth(outcomes.append)
        session.flush()
        session.send(data)
        if not session.closed:
            session.lose()
        return outcomes

    def test_each_call_ends_once_and_nothing_escapes(self) -> None:
        session = ServerSession(server=defaultServer())
        answers: list[Message] = session.send(b"".join(CALLS))
        stream = b"".join(message(*each[1:7], payload=each.payload) for each in answers)
        random = Random(2)
        for bit in random.sample(range(len(stream) * 8), FLIPS):
            outcomes = self.converse(flipped(stream, bit))
            self.assertEqual(len(outcomes), len(CALLS), bit)
            for outcome in outcomes:
                error = getattr(outcome, "value", None)
                if isinstance(error, BaseException):
                    self.assertIsInstance(error, VirnetError, bit)
            self.assertEqual([each.value for each in self.flushLoggedErrors()], [], bit)

    def test_unspoilt_they_all_succeed(self) -> None:
        session = ServerSession(server=defaultServer())
        answers = session.send(b"".join(CALLS))
        outcomes = self.converse(b"".join(message(*each[1:7], payload=each.payload) for each in answers))
        self.assertEqual(len(outcomes), len(CALLS))
        self.assertIn("test", [getattr(each, "name", None) for each in outcomes])
