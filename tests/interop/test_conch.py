"""Over Twisted's conch: the same as over the ssh program, through the same sshd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.echo import Dying
from tests.interop.sshd import LibvirtdTalk, ReachEcho, Talk, ToLibvirtd, ToVirnet, children, reactor
from tests.interop.support import freePort
from tests.openfiles import openAtRest
from virnet.client import connect
from virnet.errors import URIError
from virnet.transport.conch import sessionOf
from virnet.transport.config import Caller, ClientConfig
from virnet.transport.endpoints import endpointFor
from virnet.transport.uri import parseURI


class _Conch(ToVirnet):
    transport = "libssh2"


class Virnet(Talk, _Conch):
    """Our client, conch, our server."""


class Libvirtd(LibvirtdTalk, ToLibvirtd):
    """Our client, conch, a real libvirtd."""

    transport = "libssh"


class R141_Conch(ReachEcho, _Conch):
    """The contract of ways to a server, over conch."""


class Trust(_Conch):
    """Whom we believe, and who believes us."""

    async def works(self, **params: str) -> None:
        """A connection can be made."""
        connection = await connect(reactor, self.uri(**params))
        async with connection:
            self.assertEqual(await connection.remote.connectGetURI(), "test:///default")
        await self.leftNothing()

    async def test_a_host_that_is_not_known(self) -> None:
        error = await self.refused(self.uri(known_hosts="/nowhere/known"))
        self.assertIn(f"the host [127.0.0.1]:{self.server.port} is not known", error)
        self.assertIn("known_hosts_verify=auto adds it", error)
        shown = subprocess.run(
            ["ssh-keygen", "-l", "-f", self.server.directory / "hostkey.pub"],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertIn(f"fingerprint {shown.stdout.split()[1]} ", error)
        # The host is told nothing about us.
        log = (self.server.directory / "log").read_text()
        self.assertNotIn("/nowhere", log)
        self.assertNotIn("Traceback", log)

    async def test_R134_a_new_host_is_added_when_that_is_wanted(self) -> None:
        for number, params in enumerate(({"known_hosts_verify": "auto"}, {"no_verify": "1"})):
            path = str(self.server.directory / f"added{number}")
            await self.works(known_hosts=path, **params)
            await self.works(known_hosts=path)

    async def test_R134_a_host_with_another_key_is_refused_all_the_same(self) -> None:
        known = self.server.directory / "changed"
        public = Path(f"{self.server.stranger}.pub").read_text()
        known.write_text(f"[127.0.0.1]:{self.server.port} {public}")
        for params in ({}, {"known_hosts_verify": "auto"}, {"no_verify": "1"}):
            error = await self.refused(self.uri(known_hosts=str(known), **params))
            self.assertIn(f"has changed: line 1 of {known} has another", error)
        await self.works(known_hosts=str(known), known_hosts_verify="ignore")

    async def test_a_key_that_is_not_welcome(self) -> None:
        error = await self.refused(self.uri(keyfile=self.server.stranger))
        self.assertIn("127.0.0.1: Permission denied: 1 keys were refused", error)

    async def test_a_key_that_is_not_there(self) -> None:
        error = await self.refused(self.uri(keyfile="/nowhere/key"))
        self.assertIn("Permission denied: no key; /nowhere/key cannot be read", error)

    async def test_a_key_with_a_passphrase(self) -> None:
        path = str(self.server.directory / "secret")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", path], check=True)
        error = await self.refused(self.uri(keyfile=path))
        self.assertIn("secret has a passphrase: add it to an agent", error)

    def newKey(self, kind: str) -> str:
        """A key of this kind that is welcome."""
        path = f"{self.mktemp()}-{kind}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
        with (self.server.directory / "authorized").open("a") as file:
            file.write(Path(f"{path}.pub").read_text())
        return path

    async def test_rsa_and_ecdsa_keys(self) -> None:
        for kind in ("rsa", "ecdsa"):
            await self.works(keyfile=self.newKey(kind))

    async def test_keys_of_an_agent(self) -> None:
        path = str(self.server.directory / "agent")
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
        try:
            while not os.path.exists(path):
                await deferLater(reactor, 0.02)
            environ = {**os.environ, "SSH_AUTH_SOCK": path}
            subprocess.run(["ssh-add", "-q", self.server.stranger, self.server.key], env=environ, check=True)
            self.patch(os, "environ", environ)
            await self.prepareAgain()
            await self.works(keyfile="/nowhere/key", sshauth="agent")
            await self.works(keyfile="/nowhere/key", sshauth="privkey,agent")
            subprocess.run(["ssh-add", "-q", "-D"], env=environ, check=True)
            subprocess.run(["ssh-add", "-q", self.newKey("rsa")], env=environ, check=True)
            await self.works(sshauth="agent")
        finally:
            agent.terminate()
            agent.wait()

    async def prepareAgain(self) -> None:
        """What runs now was not started by a connection."""
        # What only garbage of other tests holds open would be closed at any time.
        self.children, self.descriptors = children(), openAtRest()

    async def test_nobody_listens(self) -> None:
        uri = parseURI(self.uri())._replace(port=freePort())
        factory: Any = None
        await self.assertFailure(endpointFor(reactor, uri).connect(factory), ConnectError)

    async def test_somebody_who_does_not_speak_ssh(self) -> None:
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Factory.forProtocol(Dying))
        await self.prepareAgain()
        uri = self.uri().replace(f":{self.server.port}/", f":{port.getHost().port}/")
        error = await self.refused(uri)
        await maybeDeferred(port.stopListening)
        self.assertIn("127.0.0.1 does not speak ssh", error)

    async def test_R136_the_command_fails(self) -> None:
        error = await self.refused(self.uri(socket="/nowhere/sock"))
        self.assertIn("the command there ended with exit status 1: nc: ", error)

    async def test_giving_up_while_connecting_leaves_nothing(self) -> None:
        connecting: Deferred[Any] = Deferred.fromCoroutine(connect(reactor, self.uri()))
        await deferLater(reactor, 0.02)
        connecting.addErrback(lambda _: None)
        connecting.cancel()
        await connecting
        for _ in range(100):
            await deferLater(reactor, 0.01)
        await self.leftNothing()


class Sessions(SynchronousTestCase):
    """What a URI comes to."""

    def test_defaults(self) -> None:
        home = self.mktemp()
        os.makedirs(f"{home}/.ssh")
        caller = Caller({"HOME": home, "SSH_AUTH_SOCK": "/a"}, 7, ClientConfig("f"))
        session = sessionOf(parseURI("qemu+libssh2://h/system"), False, caller)
        self.assertEqual((session.host, session.port, session.user), ("h", 22, "root"))
        self.assertEqual(session.knownHosts, f"{home}/.config/libvirt/known_hosts")
        self.assertEqual((session.verify, session.methods), ("normal", ("agent", "privkey")))
        self.assertEqual((session.keyfile, session.agent), (None, "/a"))
        self.assertIn("virt-ssh-helper 'qemu:///system'", session.command)
        for name in ("id_rsa", "id_ed25519"):
            with open(f"{home}/.ssh/{name}", "w"):
                pass
            session = sessionOf(parseURI("qemu+libssh2:///system"), False, caller)
            self.assertEqual(session.keyfile, f"{home}/.ssh/{name}")

    def test_passwords_are_not_asked_for(self) -> None:
        caller = Caller({"HOME": "/h"}, 7, ClientConfig("f"))
        uri = parseURI("qemu+libssh2://h/system?sshauth=password,keyboard-interactive")
        self.assertIn("no passwords", str(self.assertRaises(URIError, sessionOf, uri, False, caller)))
        uri = parseURI("qemu+libssh2://h/system?sshauth=password,privkey")
        self.assertEqual(sessionOf(uri, False, caller).methods, ("privkey",))
