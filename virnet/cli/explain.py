"""
C{uri explain}: what opening a URI would do, each decision with its reason. Nothing is connected to.
"""

from __future__ import annotations

import os
from argparse import Namespace

from virnet.cli.arguments import UsageError, defaultURI
from virnet.cli.output import Output
from virnet.transport.config import Caller
from virnet.transport.explain import explain

_TITLES = {
    "uri": "URI",
    "transport": "Transport",
    "socket": "Socket",
    "starts": "Starts",
    "program": "Program",
    "argv": "Command",
    "environment": "Variables",
    "there": "There",
    "host": "Host",
    "port": "Port",
    "user": "User",
    "keys": "Keys",
    "known_hosts": "Known hosts",
    "cafile": "Authority",
    "crlfile": "Revoked",
    "certfile": "Certificate",
    "keyfile": "Its key",
    "priority": "Ciphers",
    "verify": "Checks",
    "name": "Opens",
    "readonly": "Read-only",
}


def prepare(options: Namespace, output: Output) -> bool:
    """Explain, if that was asked.

    @return: it was.
    @raise UsageError: something else was.
    """
    if options.action is None:
        return False
    if options.action != "explain":
        raise UsageError(f"unexpected argument {options.action!r}; see 'virnet uri --help'")
    text = options.uri if options.uri is not None else options.connect
    if text is None:
        text = defaultURI(os.environ)
    decisions = explain(text, options.readonly, Caller.current())
    if output.asJSON:
        output.data({each.what: {"value": each.value, "why": each.why} for each in decisions})
        return True
    width = max(len(_TITLES[each.what]) for each in decisions) + 1
    for each in decisions:
        shown = ("yes" if each.value else "no") if isinstance(each.value, bool) else each.shown()
        output.line(f"{_TITLES[each.what] + ':':{width}} {shown}")
        output.line(f"{'':{width}}   {each.why}")
    return True
