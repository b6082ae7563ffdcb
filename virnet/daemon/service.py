"""
The daemon as a Twisted service.

  - It listens everywhere or not at all: where one listener fails, the sockets made before are taken away
    again.
  - It binds in C{privilegedStartService}, before C{twistd} gives privileges up, with a umask that leaves a
    UNIX socket to its owner until it has the mode it was given.
  - It says where it listens once the reactor runs, with the command that connects there.
  - Where anybody on the network may do everything, it says so.
  - What prevents the start is L{CannotStart}: one line on standard error, exit status 1, no traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from virnet.daemon.authentication import kindOf
from virnet.daemon.descriptors import allowDescriptors
from virnet.daemon.listening import Listener, ListenError, clear, locked, makeDirectory, virshCommand
from virnet.errors import RemoteError
from virnet.security.access import IAccessPolicy, RuleError
from virnet.server import NetServer, ServerProgram, ServerService
from virnet.transport.tls import TLSServerEndpoint

UMASK = 0o077


class CannotStart(SystemExit, Exception):
    """Ends the process with a line on standard error.

    C{twistd} expects an C{Exception} here: it removes its pid file and tells the process that daemonized it.
    The interpreter takes a C{SystemExit} without a traceback. It would print the text to C{sys.stderr}, but
    by now that is Twisted's log; so the text is printed here and the interpreter gets the status alone.
    """

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.code = status
        if sys.__stderr__ is not None:
            print(f"virnet: {text}", file=sys.__stderr__, flush=True)


class Daemon(NetServer):
    """A server that listens as the user said."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        programs: Iterable[ServerProgram],
        listeners: Iterable[Listener],
        readRules: Callable[[], IAccessPolicy] | None = None,
        **limits: int,
    ) -> None:
        """@param readRules: gives the access policy, now and when it shall be read again.
        @param limits: as L{NetServer} takes them.
        @raise ValueError: a limit makes no sense.
        @raise RuleError: the rules make no sense.
        """
        access = readRules() if readRules is not None else None
        super().__init__(reactor, programs, access=access, **limits)
        self._readRules = readRules
        self._listeners = [
            (each, ServerService(self, each.endpoint, readonly=each.readonly, auth=each.auth))
            for each in listeners
        ]
        self._bound = False

    def reload(self) -> None:
        """Read the rules again, for all connections, and the certificates, for those to come. What is wrong
        with them goes to the log, and those in use stay in use.
        """
        if self._readRules is not None:
            try:
                self.access = self._readRules()
            except RuleError as e:
                self.log.error("rules not reloaded: {error}", error=e)
            else:
                self.log.info("rules reloaded")
        for listener, _ in self._listeners:
            if isinstance(listener.endpoint, TLSServerEndpoint):
                try:
                    listener.endpoint.context.reload()
                except RemoteError as e:
                    self.log.error(
                        "{where}: certificates not reloaded: {error}", where=listener.text, error=e
                    )
                else:
                    self.log.info("{where}: certificates reloaded", where=listener.text)

    def privilegedStartService(self) -> None:
        """Bind everything.

        @raise CannotStart: something cannot be bound; nothing stays bound.
        """
        if self._bound:
            return
        self._bound = True
        made: list[str] = []
        umask = os.umask(UMASK)
        try:
            for listener, service in self._listeners:
                _bind(listener, service)
                if listener.path is not None:
                    made.append(listener.path)
        except ListenError as e:
            for path in made:
                os.unlink(path)
            self.log.error("{error}", error=e)
            raise CannotStart(str(e)) from e
        finally:
            os.umask(umask)

    def startService(self) -> None:
        """Start to serve.

        @raise CannotStart: something cannot be bound.
        """
        # `twist` does not call privilegedStartService; and threads that run already would hold up the exit.
        self.privilegedStartService()
        allowDescriptors(self.maxClients)
        super().startService()
        # Who reads the line may end us by a signal; only then is there somebody to take it.
        self.reactor.callWhenRunning(self._announceAll)

    def _announceAll(self) -> None:
        for listener, service in self._listeners:
            service.whenListening().addCallbacks(
                self._announce, self._failed, callbackArgs=(listener,), errbackArgs=(listener,)
            )

    def _announce(self, port: IListeningPort, listener: Listener) -> None:
        address = port.getHost()
        command = virshCommand(listener, address)
        if command is None:
            self.log.info("listening on {address}", address=address)
        else:
            self.log.info("listening, connect with: {command}", command=command)
        if self._isOpen(listener, address):
            self.log.warn(
                "{where}: other machines can connect, nobody is asked who it is, and nothing is encrypted:"
                " see --auth-tcp, --access-rules and libvirt-tls:PORT",
                where=listener.text,
            )

    def _isOpen(self, listener: Listener, address: IAddress) -> bool:
        """Whether whoever reaches this machine may do everything."""
        if listener.auth is not None or self.access is not None or kindOf(listener) != "tcp":
            return False
        return isinstance(address, (IPv4Address, IPv6Address)) and not ip_address(address.host).is_loopback

    def _failed(self, failure: Failure, listener: Listener) -> None:
        self.log.failure("cannot listen on {where}", failure, where=listener.text)
        self.reactor.stop()


def _bind(listener: Listener, service: ServerService) -> None:
    if listener.directory is not None:
        makeDirectory(listener.directory)
    try:
        with nullcontext() if listener.directory is None else locked(listener.directory):
            if listener.path is not None:
                clear(listener.path)
            service.privilegedStartService()
            if listener.group is not None and listener.path is not None:
                _giveToGroup(listener.path, listener.group, listener.mode)
    except CannotListenError as e:
        why = e.socketError.strerror if isinstance(e.socketError, OSError) else str(e.socketError)
        raise ListenError(f"cannot listen on {listener.path or listener.text}: {why}") from e
    except (OSError, ValueError, OverflowError) as e:
        raise ListenError(f"cannot listen on {listener.path or listener.text}: {e}") from e


def _giveToGroup(path: str, group: int, mode: int | None) -> None:
    """Give a socket's file to a group.

    @param mode: what it gets then; C{None} leaves what it has.
    @raise ListenError: we may not; nothing is left.
    """
    try:
        os.chown(path, -1, group)
        if mode is not None:
            os.chmod(path, mode)
    except OSError as e:
        os.unlink(path)
        raise ListenError(f"cannot give {path} to the group {group}: {e.strerror}") from e
