"""
Asking for a name or a password on the terminal, when a server wants one that is known from nowhere else.

Only the terminal is asked: what is piped into a command is not for this. Nothing else goes on meanwhile, as
there is nothing to do but wait for the answer.
"""

from __future__ import annotations

import getpass
import os
import signal
from typing import Any

from twisted.internet.defer import Deferred

from virnet.errors import VirnetError
from virnet.security.credentials import CredentialRequest

TERMINAL = "/dev/tty"


def ask(request: CredentialRequest) -> Any:
    """Ask the user.

    @raise VirnetError: there is no terminal.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with open(TERMINAL, "r+b", buffering=0) as terminal:
            if request.secret:
                return getpass.getpass(request.prompt)
            terminal.write(request.prompt.encode())
            return terminal.readline().decode(errors="surrogateescape").rstrip("\n") or None
    except OSError as e:
        raise VirnetError(
            f"the server at {request.host} wants a {'password' if request.secret else 'user name'}, and there"
            " is no terminal to ask on: put it into auth.conf"
        ) from e
    except KeyboardInterrupt:
        # It ends the command as it does at any other time, once the reactor is back.
        signal.signal(signal.SIGINT, handler)
        os.kill(os.getpid(), signal.SIGINT)
        return Deferred()
    except EOFError:
        return None
    finally:
        signal.signal(signal.SIGINT, handler)
