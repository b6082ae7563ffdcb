"""libvirt-python, the binding that applications use, run by the system's own Python, which has it."""

from __future__ import annotations

import os
import subprocess

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.interop.support import WITH_US, Daemon, LibvirtDaemon, VirnetDaemon, requireTool

_PYTHON = "/usr/bin/python3"
SECONDS = 60

#: Put before every script: it says things as JSON, one a line.
_PROLOGUE = """
import json, sys, time
import libvirt

libvirt.registerErrorHandler(lambda *_: None, None)
uri = sys.argv[1]
XML = '''
<domain type='test'>
  <name>%s</name>
  <uuid>12345678-1234-1234-1234-123456789abc</uuid>
  <memory>1024</memory>
  <os><type>hvm</type></os>
</domain>
'''

def refused(call, *args):
    try:
        return ["not refused", str(call(*args))]
    except libvirt.libvirtError as e:
        return [e.get_error_code(), e.get_error_domain(), e.get_error_message(), e.get_error_level(),
                e.get_str1(), e.get_str2(), e.get_str3(), e.get_int1(), e.get_int2()]

def say(value):
    print(json.dumps(value))
"""

#: Put before a script: it has an event loop.
LOOP = """
import threading
libvirt.virEventRegisterDefaultImpl()

def turn():
    while True:
        libvirt.virEventRunDefaultImpl()

threading.Thread(target=turn, daemon=True).start()

def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.005)  # the loop turns in its own thread and tells nobody
"""

_daemons: list[Daemon] = []


def requireBinding(testcase: SynchronousTestCase) -> None:
    """Skip a test where the binding is not installed; in CI fail it."""
    requireTool(testcase, _PYTHON)
    if subprocess.run([_PYTHON, "-c", "import libvirt"], capture_output=True).returncode:
        reason = "libvirt-python is not installed"
        if os.environ.get("CI"):
            raise testcase.failureException(f"{reason}, and in CI nothing may be missing")
        raise SkipTest(reason)


def daemons(testcase: SynchronousTestCase) -> list[Daemon]:
    """Ours and libvirt's, shared by all tests; they end with the process."""
    requireTool(testcase, "libvirtd")
    requireBinding(testcase)
    if not _daemons:
        for each in (VirnetDaemon(), LibvirtDaemon()):
            each.start()
            _daemons.append(each)
    return _daemons


def printed(testcase: SynchronousTestCase, script: str, uri: str) -> str:
    """Run a script, which has to end well and without warnings.

    @return: what it printed.
    """
    done = subprocess.run(
        [*WITH_US, _PYTHON, "-c", _PROLOGUE + script, uri],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "LC_ALL": "C"},
    )
    testcase.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
    return done.stdout
