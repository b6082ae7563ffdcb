"""What is known of a process at the other end."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.openfiles import openAtRest, openDescriptors
from virnet.security import identity
from virnet.security.identity import (
    Identity,
    groupName,
    ownIdentity,
    peerGroups,
    processStart,
    unixIdentity,
    userName,
)

NOBODY_AT_ALL = 4294967290


class Start(SynchronousTestCase):
    """When a process started."""

    def test_a_child_starts_later_and_not_before_its_parent(self) -> None:
        own = processStart(os.getpid())
        assert own is not None
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        started = processStart(child.pid)
        self.assertEqual(started, processStart(child.pid))
        child.communicate()
        assert started is not None
        self.assertTrue(own <= started)

    def test_the_name_of_a_program_may_look_like_anything(self) -> None:
        renamed = f"import sys; open('/proc/self/comm', 'w').write(') R 1 (a'); sys.stdin.read({1})"
        child = subprocess.Popen(
            [sys.executable, "-c", f"print(flush=True); {renamed}; print(flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        before = processStart(child.pid)
        child.stdin.write(b"x")
        child.stdin.flush()
        child.stdout.readline()
        self.assertEqual(processStart(child.pid), before)
        child.communicate()
        self.assertIsNotNone(before)

    def test_a_process_that_is_not_there(self) -> None:
        child = subprocess.Popen(["true"])
        child.wait()
        self.assertIsNone(processStart(child.pid))
        self.assertIsNone(processStart(0))


class StartOfPeer(SynchronousTestCase):
    """When the process at the other end of a socket started."""

    def connection(self) -> tuple[int, socket.socket]:
        """A child that has connected and ended, and its connection."""
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("")
            listening.listen()
            child = os.fork()
            if not child:
                with socket.socket(socket.AF_UNIX) as connecting:
                    connecting.connect(listening.getsockname())
                os._exit(0)
            accepted, _ = listening.accept()
        self.addCleanup(accepted.close)
        os.waitpid(child, 0)
        return child, accepted

    def test_of_one_that_lives(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            found = unixIdentity((os.getpid(), 0, 0), ours).processStart
        self.assertEqual(found, processStart(os.getpid()))

    def test_of_one_that_has_gone(self) -> None:
        pid, accepted = self.connection()
        self.assertIsNone(unixIdentity((pid, 0, 0), accepted).processStart)

    def test_of_one_whose_number_is_anothers_by_now(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                os.close(ours.getsockopt(socket.SOL_SOCKET, 77))
                told: int | None = None
            except OSError:
                # Before Linux 6.5 nobody can tell.
                told = 4711
        pid, accepted = self.connection()
        self.patch(identity, "processStart", lambda pid: 4711)
        self.assertEqual(unixIdentity((pid, 0, 0), accepted).processStart, told)

    def test_nothing_is_left_open(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            before = openAtRest()
            unixIdentity((os.getpid(), 0, 0), ours)
            self.assertEqual(openDescriptors(), before)


class Names(SynchronousTestCase):
    """Names of numbers."""

    def test_root(self) -> None:
        self.assertEqual((userName(0), groupName(0)), (pwd.getpwuid(0).pw_name, grp.getgrgid(0).gr_name))

    def test_nobody(self) -> None:
        self.assertEqual((userName(NOBODY_AT_ALL), groupName(NOBODY_AT_ALL)), (None, None))


class Groups(SynchronousTestCase):
    """Groups of the other end, from the kernel."""

    def test_of_this_process(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.assertEqual(set(peerGroups(ours)), set(os.getgroups()))

    def test_as_they_were_when_it_connected(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root can take groups")
        ours, theirs = socket.socketpair()
        before = os.getgroups()
        os.setgroups([4, 24, 27])
        try:
            inside, outside = socket.socketpair()
        finally:
            os.setgroups(before)
        with ours, theirs, inside, outside:
            self.assertEqual(set(peerGroups(inside)), {4, 24, 27})
            self.assertEqual(set(peerGroups(ours)), set(before))

    def test_of_what_has_none(self) -> None:
        self.assertEqual(peerGroups(None), ())
        with socket.socket() as tcp:
            self.assertEqual(peerGroups(tcp), ())
        self.assertEqual(peerGroups(tcp), ())


class Whole(SynchronousTestCase):
    """All of it."""

    def test_this_process(self) -> None:
        own = ownIdentity()
        self.assertEqual((own.pid, own.uid, own.gid), (os.getpid(), os.getuid(), os.getgid()))
        self.assertEqual(own.userName, userName(os.getuid()))
        self.assertEqual(own.transport, "unix")

    def test_it_does_not_change(self) -> None:
        own = unixIdentity((os.getpid(), 0, 0))
        self.assertRaises(AttributeError, setattr, own, "uid", 1)
        self.assertEqual(own.changed(saslUser="fred").saslUser, "fred")
        self.assertIsNone(own.saslUser)

    def test_in_words(self) -> None:
        told = Identity(transport="tls", saslUser="fred", x509dname="CN=x", address="192.0.2.1:5")
        self.assertEqual(str(told), "sasl fred, dn CN=x, address 192.0.2.1:5, over tls")
        self.assertEqual(str(Identity()), "over other")
