"""
Measure virnet against its peers, alternating in the same run, and print a table of ratios.

 1. our server and libvirtd under the same raw client, and under libvirt-python; "recorded" is a blocking
    Python socket that repeats recorded answers, which shows what a client leaves to gain
 2. our client and libvirt-python on the same libvirtd, and against the raw client, which shows what
    that libvirtd can answer at most
 3. our client on our server against AMP and Perspective Broker
 4. volumes uploaded and downloaded: our server and libvirtd under virsh, our client and virsh on libvirtd
 5. our codecs against code written by hand with xdrlib3

A ratio is ours/peer of two measurements taken one after the other, the median over the rounds, with
the lowest and the highest; above 1 we are the faster. "cpu us" is the processor time that the
processes compared used for one call: of the server in 1, of the client in 2, of both in 3.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from types import FrameType

from tests.bench.cases import allCases
from tests.bench.processes import Processes
from tests.bench.rounds import Absent, Row, describeNoise, measureCase, noiseSample, table


def parseArguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, help="rounds a case (default 15)")
    parser.add_argument("--seconds", type=float, default=0.1, help="seconds a measurement (default 0.1)")
    parser.add_argument(
        "--quick", action="store_true", help="one round of 10 ms: whether it runs, not how fast"
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        help="cases with NAME in section, name or peers; repeatable",
    )
    parser.add_argument("--cpu", type=int, help="run all processes on this one processor: far less noisy")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.seconds = 1, 0.01
    return options


def _terminated(signum: int, frame: FrameType | None) -> None:
    # Unwinds the stack, so that the processes we started are ended.
    sys.exit(128 + signum)


def main(argv: list[str]) -> int:
    options = parseArguments(argv)
    signal.signal(signal.SIGTERM, _terminated)
    if options.cpu is not None:
        os.sched_setaffinity(0, {options.cpu})
    machine = (
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, {options.rounds} rounds of {options.seconds} s"
    )
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    noise: list[float] = []
    with Processes() as processes:
        cases = [
            case
            for case in allCases(processes)
            if not options.only or any(word in case.words() for word in options.only)
        ]
        if not cases:
            print(f"no case is named {' or '.join(options.only)}", file=sys.stderr)
            return 2
        for number, case in enumerate(cases, 1):
            label = f"{case.section}: {case.name}"
            print(f"[{number}/{len(cases)}] {label}", file=sys.stderr)
            noise.append(noiseSample())
            try:
                rows += measureCase(case, options.rounds, options.seconds)
            except Absent as absent:
                skipped[label] = str(absent)
    if options.json:
        print(
            json.dumps(
                {
                    "machine": machine,
                    "noise": noise,
                    "rows": [{**row._asdict(), "ratio": row.ratio} for row in rows],
                    "skipped": skipped,
                },
                indent=2,
            )
        )
    else:
        print("\n".join([machine, describeNoise(noise), table(rows)]))
        for label, reason in skipped.items():
            print(f"SKIPPED {label}: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
