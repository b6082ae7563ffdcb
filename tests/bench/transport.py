"""
Measure what sends: our senders against the C{write} of the transports they stand on, alternating in one run.

One process holds the same protocols over both, on the same reactor; a blocking client in another is the
load. "echo" answers messages of 28 bytes one by one, as a server answers calls; "packets" sends packets
of 262,148 bytes, the next when the one before has left; "32 MiB" sends the largest message, once for each
byte it gets. A rate is of calls, packets and messages a second.

Run: C{python -m tests.bench.transport}, with the options of C{python -m tests.bench}.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from tests.bench.processes import cpuSeconds, stop
from tests.bench.rounds import Case, Contender, Sample, describeNoise, measureCase, noiseSample, table
from tests.interop.support import ROOT
from virnet.limits import MESSAGE_MAX, MESSAGE_MIN, STREAM_CHUNK
from virnet.transport.writethrough import senderFor

CALL = bytes(MESSAGE_MIN)
PACKET = bytes(MESSAGE_MIN + STREAM_CHUNK)
LARGE = bytes(MESSAGE_MAX)
DEPTHS = (1, 5, 32)


class Echo(Protocol):
    """
    Answers each message by a write of its own.
    """

    def __init__(self, sender: Callable[[Any], Any]) -> None:
        self._sender = sender

    def connectionMade(self) -> None:
        self._write = self._sender(self.transport).write

    def dataReceived(self, data: bytes) -> None:
        write = self._write
        for _ in range(len(data) // MESSAGE_MIN):
            write(CALL)


class OurEcho(Echo):
    """
    The same, and as our connections do it: what answers what came together leaves together.
    """

    def connectionMade(self) -> None:
        self._out = self._sender(self.transport)
        self._write = self._out.write

    def dataReceived(self, data: bytes) -> None:
        several = len(data) > MESSAGE_MIN
        if several:
            self._out.hold()
        super().dataReceived(data)
        if several:
            self._out.flush()


class Packets(Protocol):
    """
    Sends as many packets as it gets bytes.
    """

    _left = 0
    _running = False

    def __init__(self, sender: Callable[[Any], Any]) -> None:
        self._sender = sender

    def connectionMade(self) -> None:
        self._out = self._sender(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._left += sum(data)
        if not self._running:
            self._running = True
            self._start()

    def _start(self) -> None:
        # A pull producer is how Twisted says that a write has left.
        self._out.registerProducer(self, False)

    def resumeProducing(self) -> None:
        if self._left:
            self._left -= 1
            self._out.write(PACKET)
        else:
            self._running = False
            self._out.unregisterProducer()

    def stopProducing(self) -> None:
        pass


class OurPackets(Packets):
    """
    The same with what our senders have for it.
    """

    def _start(self) -> None:
        self._left -= 1
        self._out.send(PACKET, (), self._sent)

    def _sent(self) -> None:
        self._running = self._left > 0
        if self._running:
            # Not at once: a client that reads as fast as this sends would have the reactor for itself.
            self.transport.reactor.callLater(0, self._start)  # type: ignore[union-attr]


class Large(Protocol):
    """
    Sends the largest message for each byte it gets.
    """

    def __init__(self, sender: Callable[[Any], Any]) -> None:
        self._sender = sender

    def connectionMade(self) -> None:
        self._write = self._sender(self.transport).write

    def dataReceived(self, data: bytes) -> None:
        for _ in data:
            self._write(LARGE)


def _plain(transport: Any) -> Any:
    return transport


PROTOCOLS: dict[str, Callable[[], Protocol]] = {
    "echo twisted": lambda: Echo(_plain),
    "echo virnet": lambda: OurEcho(senderFor),
    "packets twisted": lambda: Packets(_plain),
    "packets virnet": lambda: OurPackets(senderFor),
    "large twisted": lambda: Large(_plain),
    "large virnet": lambda: Large(senderFor),
}


def serve(directory: str) -> None:
    """
    Listen on a UNIX and a TCP socket for each protocol until standard input ends.
    """
    from twisted.internet import reactor, stdio

    loop: Any = reactor

    class UntilEOF(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            if loop.running:
                loop.stop()

    for name, make in PROTOCOLS.items():
        factory = Factory.forProtocol(make)
        factory.noisy = False
        loop.listenUNIX(os.path.join(directory, name), factory)
        port = loop.listenTCP(0, factory, interface="127.0.0.1")
        with open(os.path.join(directory, f"{name} port"), "w") as file:
            file.write(str(port.getHost().port))
    stdio.StandardIO(UntilEOF())
    print("ready", flush=True)
    loop.run()


class Client:
    """
    The blocking load.
    """

    def __init__(self, directory: str, pid: int) -> None:
        self._directory = directory
        self._pid = pid

    def _connect(self, name: str, tcp: bool) -> socket.socket:
        path = os.path.join(self._directory, name)
        if not tcp:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            return connection
        with open(f"{path} port") as file:
            connection = socket.create_connection(("127.0.0.1", int(file.read())))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _measure(
        self, name: str, tcp: bool, ask: Callable[[int], bytes], size: int, depth: int, seconds: float
    ) -> Sample:
        """
        @param ask: makes the request for so many answers.
        @param size: of one answer.
        """
        buffer = bytearray(1 << 20)
        with self._connect(name, tcp) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
            done = partial = 0
            cpu, start = cpuSeconds(self._pid), time.perf_counter()
            deadline = start + seconds
            connection.sendall(ask(depth))
            pending = depth
            while pending:
                count = connection.recv_into(buffer)
                if not count:
                    raise ConnectionError(f"{name}: the server closed the connection")
                answers, partial = divmod(partial + count, size)
                if answers:
                    done += answers
                    if time.perf_counter() < deadline:
                        connection.sendall(ask(answers))
                    else:
                        pending -= answers
            elapsed = time.perf_counter() - start
            return Sample(done / elapsed, (cpuSeconds(self._pid) - cpu) / done)

    def _contender(
        self, kind: str, whose: str, tcp: bool, ask: Callable[[int], bytes], size: int, depth: int
    ) -> Contender:
        name = f"{kind} {whose}"
        return Contender(whose, lambda seconds: self._measure(name, tcp, ask, size, depth, seconds))

    def cases(self) -> list[Case]:
        """
        Every case.
        """
        kinds: list[tuple[str, str, Callable[[int], bytes], int, int]] = [
            (f"echo, {depth} in flight", "echo", lambda n: CALL * n, MESSAGE_MIN, depth) for depth in DEPTHS
        ]
        kinds += [
            ("packets", "packets", lambda n: bytes([n]), len(PACKET), 4),
            ("32 MiB", "large", bytes, MESSAGE_MAX, 1),
        ]
        return [
            Case(
                "TCP" if tcp else "UNIX",
                case,
                self._contender(kind, "virnet", tcp, ask, size, depth),
                (self._contender(kind, "twisted", tcp, ask, size, depth),),
            )
            for tcp in (False, True)
            for case, kind, ask, size, depth in kinds
        ]


def main(argv: list[str]) -> int:
    from tests.bench.__main__ import _terminated, parseArguments

    options = parseArguments(argv)
    signal.signal(signal.SIGTERM, _terminated)
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from tests.bench.transport import serve; serve({directory!r})"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            noise = []
            rows = []
            for case in Client(directory, process.pid).cases():
                if options.only and not any(word in case.words() for word in options.only):
                    continue
                noise.append(noiseSample())
                rows += measureCase(case, options.rounds, options.seconds)
        finally:
            stop(process)
    print("\n".join([describeNoise(noise), table(rows)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
