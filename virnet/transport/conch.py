"""ssh within this process, by Twisted's conch: the transports C{libssh2} and C{libssh}.

  - On the host the same command is run as over the ssh program (L{virnet.transport.ssh}).
  - The user is C{root} unless the URI has one, the port 22.
  - The host's key has to be in C{known_hosts}, by default libvirt's own in C{~/.config/libvirt}. With
    C{known_hosts_verify=auto}, or C{no_verify}, that of a new host is added; one that changed is refused all
    the same. With C{ignore} none is looked at.
  - Who we are is shown with keys, in the order that C{sshauth} has: C{agent}, those of the agent at
    C{SSH_AUTH_SOCK}; C{privkey}, the C{keyfile}, by default the first of L{KEYS} in C{~/.ssh} that exists.
    Nobody is asked for passwords here: C{password} and C{keyboard-interactive} are passed over.
  - What the command says on standard error is the reason when it ends the connection, as it is for programs.

Needs the extra C{conch}.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from twisted.conch.client.agent import SSHAgentClient
from twisted.conch.client.knownhosts import KnownHostsFile
from twisted.conch.error import HostKeyChanged
from twisted.conch.ssh.agent import AGENTC_SIGN_REQUEST
from twisted.conch.ssh.channel import SSHChannel
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import EXTENDED_DATA_STDERR, SSHConnection
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, FingerprintFormats, Key
from twisted.conch.ssh.transport import DISCONNECT_HOST_KEY_NOT_VERIFIABLE, SSHClientTransport
from twisted.conch.ssh.userauth import MSG_USERAUTH_REQUEST, SSHUserAuthClient
from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, connectionDone
from twisted.python.failure import Failure
from twisted.python.filepath import FilePath
from zope.interface import implementer

from virnet.errors import URIError
from virnet.transport.config import Caller, userDirectory
from virnet.transport.process import STDERR_MAX
from virnet.transport.reaching import HostEndpoint
from virnet.transport.ssh import remoteCommand
from virnet.transport.sshpipe import WINDOW, SSHAddress, SSHPipe
from virnet.transport.uri import ConnectionURI

_AGENT_RSA_SHA2_512 = 4

KEYS = ("identity", "id_dsa", "id_ecdsa", "id_ed25519", "id_rsa")
"""Private keys that are looked for in C{~/.ssh}."""

SSH_PORT = 22


class SSHSession(NamedTuple):
    """All that a session needs to know.

    @ivar command: what is run on the host.
    @ivar verify: C{normal}, C{auto} or C{ignore}.
    @ivar methods: C{agent} and C{privkey}, in order.
    @ivar keyfile: the private key; C{None} where there is none.
    @ivar agent: the agent's socket; C{None} where there is none.
    @ivar reasons: why the command is what it is, in words.
    """

    host: str
    port: int
    user: str
    command: str
    knownHosts: str
    verify: str
    methods: tuple[str, ...]
    keyfile: str | None
    agent: str | None
    reasons: tuple[str, ...] = ()


def sessionOf(uri: ConnectionURI, readonly: bool, caller: Caller) -> SSHSession:
    """The session for a URI.

    @raise URIError: the URI contradicts itself, or asks for what is not to be had.
    """
    command, reasons = remoteCommand(uri, readonly, caller)
    asked = uri.params.get("sshauth", "agent,privkey").split(",")
    methods = tuple(method for method in asked if method in ("agent", "privkey"))
    if not methods:
        raise URIError(
            f"{uri.text}: virnet asks for no passwords of ssh: put 'agent' or 'privkey' into 'sshauth', or"
            " take the transport 'ssh'"
        )
    return SSHSession(
        host=uri.host or "localhost",
        port=uri.port or SSH_PORT,
        user=uri.user or "root",
        command=command,
        knownHosts=uri.params.get("known_hosts")
        or userDirectory(caller.environ, "XDG_CONFIG_HOME", ".config") + "/known_hosts",
        verify=uri.params.get("known_hosts_verify") or ("auto" if uri.flag("no_verify") else "normal"),
        methods=methods,
        keyfile=uri.params.get("keyfile") or _defaultKey(caller),
        agent=caller.environ.get("SSH_AUTH_SOCK") or None,
        reasons=reasons,
    )


def _defaultKey(caller: Caller) -> str | None:
    home = caller.environ.get("HOME") or os.path.expanduser("~")
    return next((path for path in (f"{home}/.ssh/{name}" for name in KEYS) if os.path.exists(path)), None)


class SSHFailed(ConnectionLost):
    """The session did not come about; the text says why."""

    def __str__(self) -> str:
        return str(self.args[0])


@implementer(IStreamClientEndpoint)
class SSHEndpoint:
    """Runs a command on another host for each connection, and talks to it."""

    def __init__(self, reactor: Any, session: SSHSession) -> None:
        self._reactor = reactor
        self.session = session

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to the host and run the command.

        @return: fires when it runs. Fails with L{SSHFailed} when the host is not trusted or does not let us
            in, and as Twisted's endpoints do when it cannot be reached.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        there = HostEndpoint(self._reactor, self.session.host, self.session.port)
        transport = _Transport(self._reactor, self.session, factory)
        only: Any = Factory()
        only.noisy = False
        only.buildProtocol = lambda addr: transport
        await there.connect(only)
        try:
            return await transport.ready
        except BaseException:
            transport.abort()
            raise


class _Transport(SSHClientTransport):
    """The ssh connection to the host."""

    # What is unpacked has no limit in Twisted: a packet of a megabyte may hold a gigabyte.
    supportedCompressions = [b"none"]

    def __init__(self, reactor: Any, session: SSHSession, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._session = session
        self._factory = factory
        self._failure: BaseException | None = None
        self._stage = "does not speak ssh"
        self._pipe: SSHPipe | None = None
        self.ready: Deferred[Any] = Deferred()

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[Any]:
        """Judge the host's key."""
        return execute(self._verify, Key.fromString(hostKey)).addErrback(self._failed)

    def _verify(self, key: Key) -> bool:
        host, port, *_ = self._session
        if self._session.verify == "ignore":
            return True
        known = KnownHostsFile.fromPath(FilePath(self._session.knownHosts))
        name = (host if port == SSH_PORT else f"[{host}]:{port}").encode()
        try:
            if known.hasHostKey(name, key):
                return True
        except HostKeyChanged as e:
            raise SSHFailed(
                f"the key of {name.decode()} has changed: line {e.lineno} of {self._session.knownHosts} has"
                " another; somebody may pretend to be this host"
            ) from e
        if self._session.verify != "auto":
            # As ssh-keygen -l has it.
            sha256 = key.fingerprint(FingerprintFormats.SHA256_BASE64).rstrip("=")
            raise SSHFailed(
                f"the host {name.decode()} is not known: its {key.type()} key with the fingerprint"
                f" SHA256:{sha256} is not in {self._session.knownHosts}; known_hosts_verify=auto adds it"
            )
        known.addHostKey(name, key)
        known.save()
        return True

    def _failed(self, failure: Failure) -> Failure:
        self._failure = self._failure or failure.value
        return failure

    def connectionSecure(self) -> None:
        """The host is who it should be: say who we are."""
        self._stage = "did not let us in"
        connection = _Connection(self._opened)
        auth = _UserAuth(self._reactor, self._session, connection, self._refused)
        auth.begin().addCallback(lambda _: self.requestService(auth))

    def _refused(self, why: str) -> None:
        self._failure = SSHFailed(why)

    def _opened(self, connection: SSHConnection) -> None:
        self._stage = "did not run the command"
        connection.openChannel(_Channel(self._session.command, self._started, WINDOW))

    def _started(self, channel: _Channel) -> None:
        address = SSHAddress(self._session.user, self._session.host, self._session.port)
        protocol = self._factory.buildProtocol(address)
        if protocol is None:
            self._failure = ConnectionDone("the factory wants no connection")
            self.abort()
            return
        self._pipe = SSHPipe(self._reactor, self, channel, protocol, address)
        self._pipe.start()
        self.ready.callback(protocol)

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        """The host says why it hangs up."""
        text = description.decode("utf-8", "backslashreplace")
        self._failure = self._failure or SSHFailed(f"{self._session.host} ended the session: {text}")

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        """We hang up."""
        if reason != 11:  # by application
            text = desc.decode("utf-8", "backslashreplace")
            self._failure = self._failure or SSHFailed(f"{self._session.host} {self._stage}: {text}")
        if reason == DISCONNECT_HOST_KEY_NOT_VERIFIABLE:
            # Twisted would tell this host our error with its traceback, where files of ours have their names.
            desc = b"bad host key"
        super().sendDisconnect(reason, desc)

    def abort(self) -> None:
        """Hang up without a word."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The connection to the host is gone: so is the command's."""
        reason = reason or connectionDone
        super().connectionLost(reason)
        if self._pipe is not None:
            self._pipe.lost(reason)
        elif not self.ready.called:
            self.ready.errback(
                self._failure or SSHFailed(f"{self._session.host} {self._stage}: {reason.value}")
            )

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        """One message; an error in a protocol of ours ends its connection."""
        try:
            super().dispatchMessage(messageNum, payload)
        except Exception:
            self._failed(Failure())
            self.abort()
            raise


class _UserAuth(SSHUserAuthClient):
    """Says who we are."""

    preferredOrder = [b"publickey"]

    def __init__(
        self, reactor: Any, session: SSHSession, connection: SSHConnection, refused: Callable[[str], None]
    ) -> None:
        super().__init__(session.user.encode(), connection)
        self._reactor = reactor
        self._session = session
        self._refused = refused
        self._agent: Any = None
        self._signers: dict[bytes, Key | None] = {}
        self._candidates: Iterator[tuple[Key, Key | None]] = iter(())
        self._problems: list[str] = []
        self._offered = 0

    def begin(self) -> Deferred[None]:
        """Find out which keys there are."""
        return Deferred.fromCoroutine(self._begin())

    async def _begin(self) -> None:
        found: list[tuple[Key, Key | None]] = []
        for method in self._session.methods:
            if method == "agent":
                found += [(key, None) for key in await self._agentKeys()]
            elif self._session.keyfile is None:
                self._problems.append("there is no private key")
            else:
                try:
                    key = Key.fromFile(self._session.keyfile)
                    found.append((key.public(), key))
                except EncryptedKeyError:
                    self._problems.append(f"{self._session.keyfile} has a passphrase: add it to an agent")
                except (OSError, BadKeyError) as e:
                    self._problems.append(f"{self._session.keyfile} cannot be read: {e}")
        self._candidates = iter(found)

    async def _agentKeys(self) -> list[Key]:
        if self._session.agent is None:
            return []
        try:
            endpoint = UNIXClientEndpoint(self._reactor, self._session.agent)
            self._agent = await endpoint.connect(Factory.forProtocol(SSHAgentClient))
            await self._agent.getPublicKeys()
        except Exception as e:
            self._problems.append(f"the agent does not answer: {e}")
            return []
        return list(iter(self._agent.getPublicKey, None))

    def getPublicKey(self) -> Key | None:
        """The next key to offer."""
        public, private = next(self._candidates, (None, None))
        if public is None:
            tried = f"{self._offered} keys were refused" if self._offered else "no key"
            self._refused("; ".join([f"{self._session.host}: Permission denied: {tried}", *self._problems]))
            return None
        self._offered += 1
        self._signers[public.blob()] = private
        return public

    # As in Twisted's own, but for the algorithm: hosts of today take no SHA-1 from RSA keys (RFC 8332).

    def auth_publickey(self) -> bool:  # type: ignore[override]
        """Offer the next key."""
        key = self.getPublicKey()
        if key is None:
            return False
        self.lastPublicKey = key
        self.triedPublicKeys.append(key)
        self.askForAuth(b"publickey", b"\0" + NS(_algorithm(key)) + NS(key.blob()))
        return True

    def ssh_USERAUTH_PK_OK_publickey(self, packet: bytes) -> None:
        """The host takes this key: show that it is ours."""
        key, connection = self.lastPublicKey, self.transport
        assert key is not None and connection is not None and connection.sessionID is not None
        signed = b"\1" + NS(_algorithm(key)) + NS(key.blob())
        request = bytes((MSG_USERAUTH_REQUEST,)) + NS(self.user) + NS(self.instance.name) + NS(b"publickey")
        signing = self.signData(key, NS(connection.sessionID) + request + signed)
        signing.addCallback(lambda signature: self.askForAuth(b"publickey", signed + NS(signature)))
        signing.addErrback(lambda _: self.askForAuth(b"none", b""))

    def signData(self, publicKey: Key, signData: bytes) -> Deferred[bytes]:
        """Sign with the key that was offered."""
        private = self._signers[publicKey.blob()]
        if private is not None:
            return succeed(private.sign(signData, signatureType=_algorithm(publicKey)))
        flags = _AGENT_RSA_SHA2_512 if publicKey.type() == "RSA" else 0
        request = NS(publicKey.blob()) + NS(signData) + struct.pack(">L", flags)
        asked: Deferred[bytes] = self._agent.sendRequest(AGENTC_SIGN_REQUEST, request)
        return asked.addCallback(lambda answer: getNS(answer[1:])[0])

    def auth_password(self) -> bool:
        """Nobody is asked for one."""
        return False

    auth_keyboard_interactive = auth_password

    def serviceStopped(self) -> None:
        """It is decided, or over."""
        if self._agent is not None:
            self._agent.transport.loseConnection()


def _algorithm(key: Key) -> bytes:
    """What a key signs with."""
    return b"rsa-sha2-512" if key.type() == "RSA" else key.sshType()


class _Connection(SSHConnection):
    """The service in which channels are."""

    def __init__(self, opened: Callable[[SSHConnection], None]) -> None:
        super().__init__()
        self._opened = opened

    def serviceStarted(self) -> None:
        """We are in."""
        super().serviceStarted()
        self._opened(self)


class _Channel(SSHChannel):
    """The channel in which the command runs."""

    name = b"session"
    conn: Any

    def __init__(self, command: str, started: Callable[[_Channel], None], window: int) -> None:
        super().__init__(localWindow=window)
        self._command = command
        self._started = started
        self._said = b""
        self._how = ""
        self.pipe: SSHPipe | None = None

    def channelOpen(self, specificData: bytes) -> None:
        """Run the command."""
        asked = self.conn.sendRequest(self, b"exec", NS(self._command.encode()), wantReply=True)
        asked.addCallbacks(lambda _: self._started(self), lambda _: self.conn.transport.loseConnection())

    def openFailed(self, reason: Any) -> None:
        """There is no channel to be had."""
        self.conn.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """The command says something."""
        if self.pipe is not None:
            self.pipe.received(data)

    def extReceived(self, dataType: int, data: bytes) -> None:
        """It complains."""
        if dataType == EXTENDED_DATA_STDERR:
            self._said += data[: STDERR_MAX - len(self._said)]

    def request_exit_status(self, data: bytes) -> None:
        """It has ended."""
        (status,) = struct.unpack(">L", data)
        self._how = f"ended with exit status {status}" if status else ""

    def request_exit_signal(self, data: bytes) -> None:
        """It was ended."""
        self._how = f"was ended by signal {getNS(data)[0].decode('ascii', 'replace')}"

    def eofReceived(self) -> None:
        """It says no more."""
        if self.pipe is not None:
            self.pipe.readEnded()

    def stopWriting(self) -> None:
        """The host takes no more."""
        if self.pipe is not None:
            self.pipe.hold(True)

    def startWriting(self) -> None:
        """The host takes more."""
        if self.pipe is not None:
            self.pipe.hold(False)

    def closed(self) -> None:
        """The channel is closed on both sides: so shall be the connection to the host."""
        self.conn.transport.loseConnection()

    def complaint(self) -> str:
        """What it said, and how it ended; empty if there is nothing to say."""
        said = self._said.decode("utf-8", "backslashreplace").strip()
        if not said and not self._how:
            return ""
        text = f"the command there {self._how or 'ended'}"
        return f"{text}: {said}" if said else text
