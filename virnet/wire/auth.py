"""Which procedures a client may call before it is authenticated: those by which it authenticates.

Keepalive messages pass as well, because they are answered before any call is judged.
"""

from __future__ import annotations

REMOTE_PROGRAM = 0x20008086
AUTH_LIST = 66
AUTH_SASL_INIT = 67
AUTH_SASL_START = 68
AUTH_SASL_STEP = 69
AUTH_POLKIT = 70

AUTH_TYPES = {0: "none", 1: "sasl", 2: "polkit"}
"""What AUTH_LIST answers, in words (C: C{remote_auth_type})."""

ALLOWED_UNAUTHENTICATED = frozenset(
    (REMOTE_PROGRAM, procedure)
    for procedure in (AUTH_LIST, AUTH_SASL_INIT, AUTH_SASL_START, AUTH_SASL_STEP, AUTH_POLKIT)
)
"""Pairs of program and procedure number (C: C{virNetServerProgramProcedure.needAuth})."""
