"""
Runs a command as another user, with a polkit agent beside it: ``polkitagent.py ANSWER UID COMMAND…``.

The agent is what asks a person for a password. ANSWER is what this person does: C{accept} is the right
password, C{cancel} closes the dialog. Needs root, which tells polkit of the password as its own program does
for agents. What the command prints is printed, its exit status is ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from jeepney import DBusAddress, HeaderFields, Message, new_error, new_method_call, new_method_return
from jeepney.io.blocking import DBusConnection, open_dbus_connection

AUTHORITY = DBusAddress(
    "/org/freedesktop/PolicyKit1/Authority",
    bus_name="org.freedesktop.PolicyKit1",
    interface="org.freedesktop.PolicyKit1.Authority",
)
AGENT = "/agent"
CANCELLED = "org.freedesktop.PolicyKit1.Error.Cancelled"


def startOf(pid: int) -> int:
    """When a process started, in ticks."""
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])


def ask(connection: DBusConnection, method: str, signature: str, *body: object) -> None:
    """Call a method of polkit."""
    reply = connection.send_and_get_reply(new_method_call(AUTHORITY, method, signature, body))
    if HeaderFields.error_name in reply.header.fields:
        raise RuntimeError(f"{method}: {reply.header.fields[HeaderFields.error_name]} {reply.body}")


def serve(answer: str, uid: int, root: DBusConnection, agent: DBusConnection) -> None:
    """Answer polkit for as long as the process lives."""
    while True:
        asked: Message = agent.receive()
        if asked.header.fields.get(HeaderFields.member) != "BeginAuthentication":
            continue
        if answer == "cancel":
            agent.send(new_error(asked, CANCELLED, "s", ("the dialog was closed",)))
            continue
        cookie, identities = asked.body[4], asked.body[5]
        ask(root, "AuthenticationAgentResponse2", "us(sa{sv})", uid, cookie, identities[0])
        agent.send(new_method_return(asked))


def main(answer: str, uid: int, *command: str) -> int:
    """Do it all."""
    bus = os.environ["DBUS_SYSTEM_BUS_ADDRESS"]
    root = open_dbus_connection(bus)
    user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    # The shell waits until polkit knows the agent, and then becomes the command: its number stays.
    waiting = ["sh", "-c", 'read go && exec "$@"', "sh"]
    child = subprocess.Popen([*user, *waiting, *command], stdin=subprocess.PIPE)
    os.seteuid(uid)
    agent = open_dbus_connection(bus)
    subject = ("unix-process", {"pid": ("u", child.pid), "start-time": ("t", startOf(child.pid))})
    while os.stat(f"/proc/{child.pid}").st_uid != uid:
        pass
    ask(agent, "RegisterAuthenticationAgent", "(sa{sv})ss", subject, "C", AGENT)
    threading.Thread(target=serve, args=(answer, uid, root, agent), daemon=True).start()
    child.communicate(b"go\n", timeout=60)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
