"""
A server, some clients that do random legal and illegal things, and what must hold after each of them.

What is counted is counted twice: once by the server, once here from what the script has in its hands.

  - A client's slots are held by its calls that were not answered, by packets that no end has taken and by
    answers that have not left; by nothing else, and each by one.
  - While there is a slot nothing that was read waits; a client is read if and only if there is a slot, it
    reads what it is sent, and it was let in.
  - A call is answered at most once, and once if its client stays. A stream ends once, on both sides.
  - Descriptors are open only as long as something here holds them.
  - Who is a client, who waits, who has not authenticated, and whether services accept agrees with the limits.
  - What a connection leaves is cleaned up once, when no job works for it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.authenticating import KnockAuthentication
from tests.openfiles import openAtRest, openDescriptors
from tests.peers import ServerSession
from tests.server.randomclients import CLIENT_ACTIONS, PROGRAM, HandRunPool, Scripted, Session
from virnet.errors import ConnectionLost, RemoteError
from virnet.server import NetServer, ServerClient, ServerProgram
from virnet.server.stream import streamError

BACKLOG = 20_000
SEEDS = 40
STEPS = 200


class Script:
    """Everything, and one step after the other.

    @ivar did: what was done so far.
    @ivar seen: the situations that it has come to.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.providers: dict[int, Scripted] = {}
        self.auth = KnockAuthentication()
        self.server = NetServer(
            self.clock,
            [ServerProgram(PROGRAM, self._provide)],
            maxClients=6,
            maxAnonymousClients=2,
            maxClientRequests=self.random.choice([1, 2, 5, 5]),
            maxEventBacklog=BACKLOG,
        )
        self.pool = HandRunPool()
        self.server.workers = self.pool  # type: ignore[assignment]
        self.sessions: list[Session] = []
        self.open = True
        self.before = len(openAtRest())
        self.did: list[str] = []
        self.seen: set[str] = set()

    def _provide(self, client: ServerClient) -> Scripted:
        self.providers[client.id] = Scripted(client, self.random)
        return self.providers[client.id]

    # What happens at the server

    def connect(self) -> None:
        auth = self.auth if self.random.random() < 0.4 else None
        raw = ServerSession(server=self.server, auth=auth, readSize=self.random.choice([1000, 65536]))
        self.sessions.append(Session(raw, self.random))

    def authenticate(self) -> None:
        strangers = [each for each in self.sessions if not each.client.authenticated and not each.over]
        if strangers:
            self.random.choice(strangers).client.setAuthenticated()

    def answer(self) -> None:
        waiting = [each.waiting for each in self.providers.values() if each.waiting]
        if waiting:
            some = self.random.choice(waiting)
            deferred, _ = some.pop(self.random.randrange(len(some)))
            outcome = self.random.random()
            if outcome < 0.7:
                deferred.callback("answer")
            elif outcome < 0.85:
                deferred.errback(RemoteError(1, "no"))
            else:
                deferred.callback("too long" * 1000)

    def runJob(self) -> None:
        if self.pool.jobs:
            self.pool.runOne()

    def proceed(self) -> None:
        ends = [end for each in self.providers.values() for end in each.ends if end.waiting]
        if ends:
            end = self.random.choice(ends)
            if self.random.random() < 0.8:
                end.proceed()
            else:
                end.waiting.pop(0).errback(streamError("no"))

    def stream(self) -> None:
        ends = [end for each in self.providers.values() for end in each.ends if end.opened]
        if ends:
            stream = self.random.choice(ends).stream
            what = self.random.choice(["much", "little", "end", "failure"])
            if what == "end":
                stream.writeEOF()
            elif what == "failure":
                stream.fail(streamError("over"))
            else:
                stream.write(bytes(300_000 if what == "much" else 1))

    def say(self) -> None:
        count = self.random.choice([1, 1, 20])
        for client in list(self.server.clients.values()):
            if client.authenticated:
                for _ in range(count):
                    client.events(PROGRAM).said(bytes(self.random.choice([10, 100, 9000])))

    def close(self) -> None:
        self._any(lambda client: client.close())

    def abort(self) -> None:
        self._any(lambda client: client.abort(ConnectionLost("the administrator says so")))

    def _any(self, do: Callable[[ServerClient], object]) -> None:
        if self.server.clients:
            do(self.random.choice(list(self.server.clients.values())))

    def limit(self) -> None:
        most = self.random.randrange(8)
        self.server.setClientLimits(most, self.random.randrange(min(most, 3) + 1))

    def accept(self) -> None:
        self.open = not self.open
        self.server.setAccepting(self.open)

    def wait(self) -> None:
        self.clock.advance(self.random.choice([1, 6, 60]))

    # Steps

    def step(self) -> None:
        """Do one thing, and see that everything still holds."""
        alive = [each for each in self.sessions if not each.raw.closed]
        if alive and self.random.random() < 0.6:
            session = self.random.choice(alive)
            action = self.random.choices(list(CLIENT_ACTIONS), list(CLIENT_ACTIONS.values()))[0]
            self.did.append(f"{session.client.id} {action.__name__}")
            action(session)
        else:
            act = self.random.choices(list(SERVER_ACTIONS), list(SERVER_ACTIONS.values()))[0]
            self.did.append(act.__name__)
            act(self)
        self.check()

    def check(self) -> None:
        """Let everything happen that is due, and look."""
        self.clock.advance(0)
        for session in self.sessions:
            session.hear()
            self._checkClient(session)
        self._checkServer()
        self.sessions = [each for each in self.sessions if not (each.over and self._cleaned(each))]

    def _cleaned(self, session: Session) -> bool:
        provider = self.providers.get(session.client.id)
        return provider is None or bool(provider.cleaned)

    def _checkClient(self, session: Session) -> None:
        client, provider = session.client, self.providers.get(session.client.id)
        assert not session.answered - session.asked, f"too many answers: {session.answered - session.asked}"
        jobs = sum(each is provider for each, _, _ in self.pool.jobs)
        if provider is not None:
            for end in provider.ends:
                assert end.losses <= 1
                if session.over and end.opened:
                    assert end.losses or end.finished, "a stream that nobody has ended"
            assert provider.cleaned == (session.over and not jobs)
            self._note("a stream is lost", any(end.losses for end in provider.ends))
            self._note("a job works for who has left", session.over and jobs > 0)
        self._note("the backlog is too large", client._overrun)
        if session.over:
            assert not client._streams and client.id not in self.server.clients
            return
        connection = client.connection
        slots = self._slots(client, provider) + jobs
        # What was judged behind the call that closes is not done any more, and keeps its slot.
        assert connection.inProgress == slots or client.ending and connection.inProgress > slots, (
            f"{connection.inProgress} slots are held, {slots} have a reason"
        )
        assert 0 <= connection.inProgress <= connection.limit
        assert connection.throttled or connection.closed or not connection.waiting
        held = client.id not in self.server.clients
        self._note("all slots are held", connection.throttled)
        self._note("the peer does not read", client._congested)
        self._note("one waits to be let in", held)
        self._note("it closes after the next reply", client._closing)
        self._note("packets wait for an end", any(each._inputs for each in client._streams.values()))
        self._note("descriptors wait for their message", bool(client._descriptors))
        if not client.ending:
            mustPause = connection.throttled or client._congested or held
            assert client.transport.paused == mustPause  # type: ignore[union-attr]
            assert client._streams.keys() == connection.streams.keys()
        sender = client.sender
        assert 0 <= client._eventsWaiting <= BACKLOG
        if not sender.queued:
            assert not client._eventsWaiting

    def _note(self, situation: str, there: bool) -> None:
        if there:
            self.seen.add(situation)

    def _slots(self, client: ServerClient, provider: Scripted | None) -> int:
        """How many slots are held, from what there is that may hold one."""
        sender = client.sender
        # The transport holds the sender's messages until it has enough, and then the sender does.
        slots = 0
        for each in (*sender._queue, *sender._handed):
            slots += each.sent == client.release
        slots += sum(len(stream._inputs) for stream in client._streams.values())
        if provider is not None:
            slots += len(provider.waiting) + sum(len(end.waiting) for end in provider.ends)
        return slots

    def _checkServer(self) -> None:
        server = self.server
        there = {each.client.id for each in self.sessions if not each.over}
        clients, held = set(server.clients), set(server._held)
        assert not clients & held and clients | held == there, (clients, held, there)
        anonymous = sum(not each.authenticated for each in server.clients.values())
        assert server.anonymousClients == anonymous
        most = server.maxAnonymousClients
        room = self.open and len(clients) < server.maxClients and (not most or anonymous < most)
        assert server.accepting == room
        self._note("nobody is accepted", not room)
        assert not (room and held)
        open_ = sum(len(each.client._descriptors) for each in self.sessions)
        open_ += sum(count for each in self.providers.values() for _, count in each.waiting)
        found = len(openDescriptors()) - self.before
        assert found == open_, f"{found} descriptors are open, {open_} have a reason"

    def settle(self) -> None:
        """Have everything end in order, and see that nobody was forgotten."""
        self.open = True
        self.server.setAccepting(True)
        self.server.setClientLimits(100, 0)
        for session in self.sessions:
            session.readAgain()
            session.send(b"")
            if session.raw.transport.disconnecting:
                # It does not read any more, and the server reads from nobody who does not.
                session.die()
        for _ in range(2):
            busy = True
            while busy:
                self.check()
                busy = False
                for provider in self.providers.values():
                    for end in provider.ends:
                        end.holding = False
                        while end.waiting:
                            busy = True
                            end.proceed()
                    while provider.waiting:
                        busy = True
                        provider.waiting.pop(0)[0].callback("answer")
                while self.pool.jobs:
                    busy = True
                    self.pool.runOne()
            for session in self.sessions:
                if session.client.authenticated and not session.over:
                    session.finishStreams()
        self.check()
        for session in self.sessions:
            assert session.client.inProgress == 0
            assert session.asked == session.answered, session.asked - session.answered
            assert not session.client._streams
            session.hangUp()
        self.check()
        assert not self.server.clients and not self.server.heldClients
        assert not self.clock.getDelayedCalls(), self.clock.getDelayedCalls()


SERVER_ACTIONS = {
    Script.connect: 8,
    Script.authenticate: 4,
    Script.answer: 20,
    Script.runJob: 8,
    Script.proceed: 20,
    Script.stream: 12,
    Script.say: 6,
    Script.close: 1,
    Script.abort: 1,
    Script.limit: 1,
    Script.accept: 2,
    Script.wait: 2,
}


class Scripts(SynchronousTestCase):
    """Scripts with fixed seeds; each that ever fails is run again by its number."""

    def test_whatever_clients_do_the_books_are_right(self) -> None:
        seen: set[str] = set()
        for seed in range(SEEDS):
            script = Script(seed)
            try:
                for _ in range(STEPS):
                    script.step()
                script.settle()
            except Exception as e:
                raise AssertionError(f"seed {seed}, after {script.did[-5:]}: {e}") from e
            seen |= script.seen
        self.assertEqual(seen, SITUATIONS)


SITUATIONS = {
    "a stream is lost",
    "a job works for who has left",
    "the backlog is too large",
    "all slots are held",
    "the peer does not read",
    "one waits to be let in",
    "it closes after the next reply",
    "packets wait for an end",
    "descriptors wait for their message",
    "nobody is accepted",
}
"""What the scripts have to come to; otherwise they show little."""
