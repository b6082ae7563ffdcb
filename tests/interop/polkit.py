"""
A polkitd of our own, on a D-Bus of our own, with rules of our own.

polkitd takes its bus from the environment. The directories of its actions and rules are compiled in: it is
started in a mount namespace in which ours lie there, which takes root.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.interop.support import START_SECONDS, STOP_SECONDS, WITH_US

POLKITD = ("/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd")

BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={directory}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""

ACTION = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE policyconfig PUBLIC "-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/PolicyKit/1/policyconfig.dtd">
<policyconfig>
{actions}</policyconfig>
"""

DEFAULTS = """\
  <action id="{name}">
    <description>A test</description>
    <message>A test</message>
    <defaults>
      <allow_any>{default}</allow_any>
      <allow_inactive>{default}</allow_inactive>
      <allow_active>{default}</allow_active>
    </defaults>
  </action>
"""

#: What libvirt's own policy says: everyone may look, to manage takes an administrator's password.
LIBVIRT = {"org.libvirt.unix.monitor": "yes", "org.libvirt.unix.manage": "auth_admin_keep"}


def polkitd() -> str | None:
    """The program, where it is installed; it is in no C{PATH}."""
    return next((each for each in POLKITD if os.access(each, os.X_OK)), None)


class PolkitBus:
    """
    A D-Bus with polkitd on it.

    @ivar address: of the bus, for C{DBUS_SYSTEM_BUS_ADDRESS}.
    """

    def __init__(self, rules: str = "", actions: dict[str, str] = LIBVIRT) -> None:
        """@param rules: JavaScript, as in C{/etc/polkit-1/rules.d}.
        @param actions: each action and what it takes where no rule says anything.
        """
        self.directory = Path(tempfile.mkdtemp(prefix="virnet-polkit-"))
        self.address = f"unix:path={self.directory}/bus"
        self._rules = rules
        self._actions = actions
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process use this bus."""
        return {"DBUS_SYSTEM_BUS_ADDRESS": self.address}

    @property
    def log(self) -> str:
        """All that the daemons printed."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """
        Start the bus and polkitd, and wait until polkitd answers.
        """
        self.directory.chmod(0o755)
        rules, actions = self.directory / "rules", self.directory / "actions"
        for made in (rules, actions):
            made.mkdir()
        (rules / "10-test.rules").write_text(self._rules)
        text = "".join(DEFAULTS.format(name=name, default=each) for name, each in self._actions.items())
        (actions / "test.policy").write_text(ACTION.format(actions=text))
        config = self.directory / "bus.conf"
        config.write_text(BUS.format(directory=self.directory))
        atexit.register(self.stop)
        self._launch("dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile")
        self._wait(lambda: (self.directory / "bus").exists())
        binds = (
            f"mount --bind {rules} /etc/polkit-1/rules.d",
            f"mount --bind {rules} /usr/share/polkit-1/rules.d",
            f"mount --bind {actions} /usr/share/polkit-1/actions",
            f"exec {polkitd()} --no-debug",
        )
        self._launch("unshare", "-m", "sh", "-c", " && ".join(binds))
        self._wait(self._answers)

    def _launch(self, *command: str) -> None:
        with (self.directory / "log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [*WITH_US, *command],
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def _wait(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self._processes[-1].poll() is not None or time.monotonic() > deadline:
                printed = self.log
                self.stop()
                raise RuntimeError(f"{shlex.join(map(str, self._processes[-1:]))} failed:\n{printed}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        check = ["pkcheck", "--process", str(os.getpid()), "--action-id", next(iter(self._actions))]
        environment = {**os.environ, **self.environment}
        asked = subprocess.run(check, env=environment, capture_output=True, timeout=START_SECONDS)
        return asked.returncode == 0

    def stopPolkit(self) -> None:
        """
        End polkitd, and leave the bus.
        """
        self._end(self._processes.pop())

    def stop(self) -> None:
        """
        End both, and remove everything.
        """
        atexit.unregister(self.stop)
        while self._processes:
            self._end(self._processes.pop())
        shutil.rmtree(self.directory, ignore_errors=True)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
