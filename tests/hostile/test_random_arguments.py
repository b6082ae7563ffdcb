"""Every procedure of the main program, called with arguments that make no sense.

Each call gets its one reply, no method fails with anything but an error it means, and the server serves on.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.hostile.garble import Garbler
from tests.peers import CALL, ERROR, OK, REPLY, Message, ServerSession, callNamed, message
from virnet.hypervisor.memory import MemoryHypervisor
from virnet.hypervisor.session import RemoteSession
from virnet.programs import REMOTE
from virnet.programs.base import Procedure
from virnet.server import NetServer, ServerProgram
from virnet.xdr.schema import Struct

ROUNDS = 4
CLOSE = 2


class Arguments(SynchronousTestCase):
    """The hypervisor in memory, under fire."""

    def setUp(self) -> None:
        self.renew()
        self.server = NetServer(
            Clock(), [ServerProgram(REMOTE, lambda client: RemoteSession(client, self.hypervisor))]
        )
        self.witness = self.opened()

    def renew(self) -> None:
        """Later connections find a hypervisor that nobody has changed."""
        self.hypervisor = MemoryHypervisor()

    def objects(self) -> dict[tuple[str, ...], list[bytes]]:
        """What exists in a new hypervisor, by the fields of its structure."""
        found: dict[tuple[str, ...], list[bytes]] = {}
        session = self.opened()
        for name, args in (
            ("domainLookupByName", ("test",)),
            ("networkLookupByName", ("default",)),
            ("storagePoolLookupByName", ("default-pool",)),
            ("interfaceLookupByName", ("eth1",)),
        ):
            (reply,) = session.send(callNamed(REMOTE, name, 1, *args))
            fields = REMOTE.byName[name].decodeRet(reply.payload)._fields
            found.setdefault(fields, []).append(reply.payload)
        session.lose()
        return found

    def opened(self) -> ServerSession:
        """A client that has opened the hypervisor."""
        session = ServerSession(server=self.server)
        (reply,) = session.send(callNamed(REMOTE, "connectOpen", 0, "test:///default", 0))
        self.assertEqual(reply.status, OK)
        return session

    def call(self, procedure: Procedure, payload: bytes) -> list[Message]:
        """Call once over a connection of its own; return the replies."""
        session = self.opened()
        came = session.send(message(REMOTE.number, 1, procedure.number, CALL, 7, OK, payload))
        self.server.reactor.advance(120)
        came += session.flush()
        session.lose()
        return [each for each in came if each.type == REPLY]

    def judge(self, procedure: Procedure, replies: list[Message]) -> str | None:
        """What is wrong with what happened; C{None} when nothing is."""
        failures = self.flushLoggedErrors()
        if failures:
            return f"raised {failures[0].value!r}"
        if len(replies) != 1:
            return f"{len(replies)} replies"
        (reply,) = replies
        if (reply.serial, reply.procedure) != (7, procedure.number):
            return f"answered as {reply[:7]}"
        if reply.status == ERROR and reply.error[2] in (None, "", "Unable to encode message payload"):
            return f"answered with {reply.error}"
        return None

    def attack(self, damaged: bool) -> None:
        found: dict[str, Any] = {}
        succeeded: set[int] = set()
        for procedure in REMOTE.procedures.values():
            node = Struct("args", procedure.args)
            self.renew()
            objects = self.objects()
            for round_ in range(ROUNDS):
                garbler = Garbler(procedure.number * 1000 + round_, objects)
                payload = garbler.make(node)
                if damaged:
                    payload = garbler.damage(payload)
                replies = self.call(procedure, payload)
                succeeded |= {each.procedure for each in replies if each.status == OK}
                wrong = self.judge(procedure, replies)
                if wrong is not None:
                    found[f"{procedure.number} {procedure.name}: {wrong}"] = payload.hex()
        self.assertEqual(found, {}, "\n" + "\n".join(found))
        # Not all of it is refused at the door.
        self.assertGreater(len(succeeded), 80)
        (reply,) = self.witness.send(callNamed(REMOTE, "connectGetHostname", 2))
        self.assertEqual(reply.status, OK)
        self.assertEqual(list(self.server.clients.values()), [self.witness.client])

    def test_well_formed_nonsense(self) -> None:
        self.attack(damaged=False)

    def test_damaged_nonsense(self) -> None:
        self.attack(damaged=True)
