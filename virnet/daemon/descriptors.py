"""How many descriptors the process may have: as many as its clients can need, if the system lets it.

The soft limit of a login is often 1024, less than C{max_clients}; to raise it up to the hard one needs no
privilege.
"""

from __future__ import annotations

import resource

from twisted.logger import Logger

from virnet.limits import DESCRIPTORS_RESERVED

_log = Logger()


def allowDescriptors(clients: int) -> None:
    """Raise the soft C{RLIMIT_NOFILE} if it is too low for so many clients; it is never lowered.

    What the hard limit does not allow is logged: the server works, and fewer clients fit.

    @param clients: one descriptor each.
    """
    wanted = clients + DESCRIPTORS_RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
        if reachable < wanted:
            _log.warn(
                "the system allows {reachable} open files, max_clients {clients} can need {wanted}: raise the"
                " hard limit (ulimit -Hn, LimitNOFILE= of systemd) or lower max_clients",
                reachable=reachable,
                clients=clients,
                wanted=wanted,
            )
