"""What is known of a process at the other end."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

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
        identity = ownIdentity()
        self.assertEqual((identity.pid, identity.uid, identity.gid), (os.getpid(), os.getuid(), os.getgid()))
        self.assertEqual(identity.userName, userName(os.getuid()))
        self.assertEqual(identity.transport, "unix")

    def test_it_does_not_change(self) -> None:
        identity = unixIdentity((os.getpid(), 0, 0))
        self.assertRaises(AttributeError, setattr, identity, "uid", 1)
        self.assertEqual(identity.changed(saslUser="fred").saslUser, "fred")
        self.assertIsNone(identity.saslUser)

    def test_in_words(self) -> None:
        identity = Identity(transport="tls", saslUser="fred", x509dname="CN=x", address="192.0.2.1:5")
        self.assertEqual(str(identity), "sasl fred, dn CN=x, address 192.0.2.1:5, over tls")
        self.assertEqual(str(Identity()), "over other")
