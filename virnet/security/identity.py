"""Who a connection belongs to.

Rules:

  - An identity is what the system or an authentication has proved, never what a client says of itself.
  - The kernel tells the process, user and groups of a UNIX peer as they were when it connected. The start
    time of the process is read once, early: with it a later process of the same number is told apart. Where
    the kernel can say (Linux 6.5), it counts only if the process lives on then, and so is the one that
    connected.
  - An identity does not change; a connection gets another one when it has authenticated.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import select
import socket
import struct
from typing import Any

import attrs

TRANSPORTS = ("unix", "tcp", "tls", "other")

_PEERGROUPS = 59
"""C: C{SO_PEERGROUPS} of Linux, which Python has no name for."""

_PEERPIDFD = 77
"""C: C{SO_PEERPIDFD} of Linux."""

_NGROUPS_MAX = 65536


@attrs.frozen
class Identity:
    """What is known of the other end (C: C{virIdentity}). C{None} is what is not known.

    @ivar transport: C{unix}, C{tcp}, C{tls}; C{other} is what libvirt does not have.
    @ivar pid: the process, of a UNIX peer.
    @ivar processStart: when it started, in the ticks of C{/proc/PID/stat} since the system did.
    @ivar uid: its user.
    @ivar gid: its group.
    @ivar groups: further groups it was in.
    @ivar userName: the name of C{uid}.
    @ivar groupName: the name of C{gid}.
    @ivar saslUser: who SASL has proved it to be.
    @ivar x509dname: the distinguished name in its certificate, once that was verified.
    @ivar address: of a network peer, C{HOST:PORT}.
    """

    transport: str = "other"
    pid: int | None = None
    processStart: int | None = None
    uid: int | None = None
    gid: int | None = None
    groups: frozenset[int] = frozenset()
    userName: str | None = None
    groupName: str | None = None
    saslUser: str | None = None
    x509dname: str | None = None
    address: str | None = None

    def changed(self, **changes: Any) -> Identity:
        """Make one that differs.

        @param changes: fields and their new values.
        """
        return attrs.evolve(self, **changes)

    def __str__(self) -> str:
        """The proved names in one line, the strongest first, for logs."""
        words = [
            f"{word} {value}"
            for word, value in (
                ("sasl", self.saslUser),
                ("dn", self.x509dname),
                ("user", self.userName),
                ("uid", self.uid),
                ("pid", self.pid),
                ("address", self.address),
            )
            if value is not None
        ]
        return ", ".join([*words, f"over {self.transport}"])


def unixIdentity(credentials: tuple[int, int, int], sock: socket.socket | None = None) -> Identity:
    """Make the identity of a process that connected to a UNIX socket.

    @param credentials: its pid, uid and gid, from the kernel.
    @param sock: the connection, which tells further groups.
    """
    pid, uid, gid = credentials
    return Identity(
        transport="unix",
        pid=pid,
        processStart=_startOfPeer(pid, sock),
        uid=uid,
        gid=gid,
        groups=frozenset(peerGroups(sock)),
        userName=userName(uid),
        groupName=groupName(gid),
    )


def processStart(pid: int) -> int | None:
    """When a process started, in ticks since the system did: field 22 of C{/proc/PID/stat}.

    @return: C{None} if it cannot be read, as for a process that is gone or that is in another name space.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # The second field is a name in brackets, which may have blanks and brackets in it.
            return int(stat.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _startOfPeer(pid: int, sock: socket.socket | None) -> int | None:
    """When the process at the other end started.

    @return: C{None} if it has gone, so that the number may be another's.
    """
    started = processStart(pid)
    if sock is None:
        return started
    try:
        handle = sock.getsockopt(socket.SOL_SOCKET, _PEERPIDFD)
    except OSError as e:
        return started if e.errno == errno.ENOPROTOOPT else None
    try:
        # It can be read when the process has ended.
        watch = select.poll()
        watch.register(handle, select.POLLIN)
        return None if watch.poll(0) else started
    finally:
        os.close(handle)


def peerGroups(sock: socket.socket | None) -> tuple[int, ...]:
    """The further groups of the process at the other end of a UNIX socket.

    @return: none where the system does not say.
    """
    if sock is None:
        return ()
    for room in (256, _NGROUPS_MAX):
        try:
            groups = sock.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, room * 4)
        except OSError:
            continue
        return struct.unpack(f"{len(groups) // 4}I", groups)
    return ()


def userName(uid: int) -> str | None:
    """The name of a user; C{None} for one without."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return None


def groupName(gid: int) -> str | None:
    """The name of a group; C{None} for one without."""
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OSError):
        return None


def ownIdentity() -> Identity:
    """What a server would see of this process."""
    return unixIdentity((os.getpid(), os.getuid(), os.getgid())).changed(groups=frozenset(os.getgroups()))
