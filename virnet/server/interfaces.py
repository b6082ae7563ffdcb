"""What a provider gets to know about the connection it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Attribute, Interface

from virnet.programs.base import Program


class IServerClient(Interface):
    """What a provider gets to know about, and may do with, the connection it answers."""

    id = Attribute("C{int}: counts from 1 in each server.")
    peer = Attribute("C{str}: the other side in words.")
    readonly = Attribute("C{bool}: it arrived on a read-only socket, or asked to be read-only.")
    authenticated = Attribute("C{bool}: it may make calls.")
    credentials = Attribute("C{(pid, uid, gid)} of a UNIX peer, else C{None}.")
    identity = Attribute("L{Identity}: what is proved of the other side.")

    def events(program: Program[Any]) -> Any:
        """Get an object that sends the events of a program to this client.

        @return: a provider of C{program.eventInterface}: each of its methods sends one event.
        """

    def useKeepAlive() -> None:
        """The client understands keepalive: send it PINGs as the server's settings say."""

    def closeAfterReply() -> None:
        """Read nothing more; close when the reply to the running call was sent."""

    def close() -> None:
        """Close now; what was written before is still delivered."""

    def onDisconnect(call: Callable[[], object]) -> None:
        """Have something called when the connection is gone; at once if it is gone already.

        As long as a blocking method runs for the client, or waits for a thread, it is not called: what it
        takes away may be in use. Calls that wait for a Deferred do not hold it up.
        """
