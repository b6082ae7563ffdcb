"""Starting the daemon of a user's session when nobody listens on its socket.

  - Only a socket that is not there, or that nobody listens on (ENOENT, ECONNREFUSED), has a daemon started.
  - Who starts it holds a lock (C{libvirtd.lock} in the directory of the sockets), so that of several clients
    one does, and the others find its daemon when they get the lock. Clients of libvirt's take the same lock.
  - The daemon is a process of its own: another session, no terminal, working directory C{/}, standard files
    on C{/dev/null}, few of our variables. It ends two minutes after its last client.
  - Then the socket is tried every L{RETRY} seconds for L{PATIENCE} seconds.

None of it blocks: the lock is asked for again and again, the daemon is started in a thread.

(C: C{virNetSocketNewConnectUNIX}, C{virNetSocketForkDaemon}.)
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from virnet.transport.ssh import commandEnvironment

RETRY = 0.01
"""Seconds between two tries to connect to a daemon that was started; libvirt's figure."""

PATIENCE = 5.0
"""Seconds until that is given up; libvirt's figure."""

_LOCK_RETRY = 0.05
_ARGUMENTS = ("--timeout=120",)
_DIRECTORIES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")

# An open file description's own lock (C: struct flock, from byte 0, 1 byte): unlike a process's it also keeps
# out our other connections, and those locks, which libvirt takes, see it.
_LOCK = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)


@implementer(IStreamClientEndpoint)
class SessionEndpoint:
    """Connects to a socket, and starts its daemon first if need be."""

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        directory: str,
        daemon: str,
        environ: Mapping[str, str],
    ) -> None:
        """@param endpoint: connects to the socket.
        @param directory: where the sockets are; made if it is missing.
        @param daemon: the program.
        """
        self._reactor = reactor
        self._endpoint = endpoint
        self._directory = directory
        self._daemon = daemon
        self._environ = environ

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, whatever it takes.

        @return: fires with the protocol; fails as Twisted's own endpoint does when no daemon came up.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        try:
            return await self._endpoint.connect(factory)
        except ConnectError as e:
            if not _nobodyThere(e):
                raise
        os.makedirs(self._directory, 0o700, exist_ok=True)
        path = f"{self._directory}/{os.path.basename(self._daemon)}.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(lock):
                await deferLater(self._reactor, _LOCK_RETRY)
            return await self._startAndConnect(factory)
        finally:
            os.close(lock)

    async def _startAndConnect(self, factory: IProtocolFactory) -> Any:
        started = False
        until = self._reactor.seconds() + PATIENCE
        while True:
            try:
                return await self._endpoint.connect(factory)
            except ConnectError as e:
                if not _nobodyThere(e) or self._reactor.seconds() >= until:
                    raise
            if not started:
                await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._start)
                started = True
            await deferLater(self._reactor, RETRY)

    def _start(self) -> None:
        """Start the daemon; blocks until it was handed to init, some milliseconds.

        @raise OSError: it cannot be started.
        """
        if not os.access(self._daemon, os.X_OK):
            raise FileNotFoundError(errno.ENOENT, "nobody listens, and the daemon is not there", self._daemon)
        subprocess.run(
            ["/bin/sh", "-c", '"$0" "$@" &', self._daemon, *_ARGUMENTS],
            check=True,
            cwd="/",
            env=commandEnvironment(self._environ, *_DIRECTORIES),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def _nobodyThere(error: ConnectError) -> bool:
    return error.osError in (errno.ENOENT, errno.ECONNREFUSED)


def _locked(lock: int) -> bool:
    """Try to take the lock."""
    try:
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _LOCK)
    except OSError as e:
        if e.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True
