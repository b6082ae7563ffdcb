"""
The client's side of the conversation with the bench: every client under measurement is a process of its own
that reads one JSON request a line from standard input and writes one JSON answer a line to standard output,
until end of input.

    -> {"call": "connectGetHostname", "depth": 5, "seconds": 0.2}
    <- [calls, seconds]

The first line written is C{"ready"}. Only the standard library is used: the system's Python runs this too,
because the libvirt binding is installed there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

Measure = Callable[[str, int, float], tuple[int, float]]
"""(call, calls in flight, seconds to go on for) -> (calls answered, seconds taken)"""


def serve(measure: Measure) -> None:
    """
    Answer the requests of the bench until it closes our standard input.
    """
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(measure(request["call"], request["depth"], request["seconds"])), flush=True)
