"""
What is built from the checkout, and that C{twistd} finds virnet however it is installed: from a wheel, by an
editable install, and in a checkout that is not installed at all.

Each kind has a virtual environment of its own. These take their dependencies from the environment that runs
the tests, so nothing is downloaded; what they have of virnet is only what the test put there.
"""

from __future__ import annotations

import configparser
import os
import shutil
import site
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from virnet._version import __version__

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGED = ("virnet", "twisted", "docs", "tests")

OFFLINE = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")
BUILD_SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
WHERE = "from twisted.plugins import virnet_dropin; print(virnet_dropin.__file__)"
TWISTD = "from twisted.scripts.twistd import run; run()"


def run(*command: str | Path, cwd: Path) -> str:
    """
    Run a command that has to succeed.

    @return: its standard output.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"{command} exited {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def pip(*arguments: str | Path, cwd: Path) -> None:
    run(sys.executable, "-m", "pip", *arguments, cwd=cwd)


def copyCheckout(to: Path) -> None:
    """
    Copy what a clone would have, so that building writes nothing into the checkout.
    """
    litter = shutil.ignore_patterns("__pycache__", "*.egg-info", "dropin.cache", "_build", "_trial_temp*")
    for name in PACKAGED:
        shutil.copytree(CHECKOUT / name, to / name, ignore=litter)
    for file in CHECKOUT.iterdir():
        if file.is_file():
            shutil.copy(file, to)


class Environment:
    """
    A virtual environment with this one's dependencies and without its virnet.
    """

    def __init__(self, path: Path) -> None:
        venv.create(path, symlinks=True, with_pip=False)
        self.path = path
        self.python = path / "bin" / "python"
        self.empty = path / "empty"
        self.empty.mkdir()
        (packages,) = path.glob("lib/python*/site-packages")
        # A directory named in a .pth file is searched, but no .pth file within it is read: an editable virnet
        # there stays out of sight. The name sorts last, so what is installed here comes first.
        (packages / "zz-dependencies.pth").write_text("\n".join(site.getsitepackages()))

    def install(self, *what: str | Path) -> None:
        pip("--python", self.python, "install", *OFFLINE, "--ignore-installed", *what, cwd=self.empty)


class Build(NamedTuple):
    """
    @ivar source: a copy of the checkout.
    @ivar sdist: the source distribution built from it.
    @ivar wheel: the wheel built from that.
    """

    source: Path
    sdist: Path
    wheel: Path


@cache
def build() -> Build:
    """
    Build both kinds, once for all tests.
    """
    into = Path(tempfile.mkdtemp(dir=os.getcwd()))
    source = into / "source"
    source.mkdir()
    copyCheckout(source)
    run(sys.executable, "-c", BUILD_SDIST, into, cwd=source)
    (sdist,) = into.glob("*.tar.gz")
    pip("wheel", *OFFLINE, "--wheel-dir", into, sdist, cwd=into)
    (wheel,) = into.glob("*.whl")
    return Build(source, sdist, wheel)


class WheelTests(SynchronousTestCase):
    """
    What is in the wheel.
    """

    def setUp(self) -> None:
        with zipfile.ZipFile(build().wheel) as wheel:
            self.files = {name: wheel.read(name) for name in wheel.namelist()}

    def test_holds_every_module(self) -> None:
        """
        A package without C{__init__.py} would be missing here and nowhere else.
        """
        source = build().source
        modules = {file.relative_to(source).as_posix() for file in source.glob("virnet/**/*.py")}
        self.assertEqual(set(), modules - set(self.files))

    def test_is_typed(self) -> None:
        self.assertIn("virnet/py.typed", self.files)

    def test_adds_only_the_dropin_to_twisted(self) -> None:
        """
        An C{__init__.py} of ours in C{twisted} would overwrite Twisted's.
        """
        added = [name for name in self.files if name.startswith("twisted/")]
        self.assertEqual(["twisted/plugins/virnet_dropin.py"], added)

    def test_holds_nothing_else(self) -> None:
        tops = {name.split("/")[0] for name in self.files}
        self.assertEqual({"virnet", "twisted", f"virnet-{__version__}.dist-info"}, tops)

    def test_installs_the_command(self) -> None:
        scripts = configparser.ConfigParser()
        scripts.read_string(self.files[f"virnet-{__version__}.dist-info/entry_points.txt"].decode())
        self.assertEqual({"virnet": "virnet.cli.main:main"}, dict(scripts["console_scripts"]))

    def test_declares_the_extras(self) -> None:
        metadata = self.files[f"virnet-{__version__}.dist-info/METADATA"].decode().splitlines()
        extras = {line.split(": ")[1] for line in metadata if line.startswith("Provides-Extra: ")}
        self.assertEqual({"sasl", "gssapi", "conch", "mdns", "metrics", "idl", "cli", "dev"}, extras)
        self.assertIn("License-Expression: MIT", metadata)


class SourceDistributionTests(SynchronousTestCase):
    """
    What is in the source distribution.
    """

    def test_holds_what_the_tests_need(self) -> None:
        with tarfile.open(build().sdist) as sdist:
            files = {name.split("/", 1)[-1] for name in sdist.getnames()}
        needed = {"README.rst", "LICENSE", "tox.ini", "pyproject.toml", "twisted/plugins/virnet_dropin.py"}
        self.assertEqual(set(), needed - files)
        self.assertIn("tests/test_packaging.py", files)


class DiscoveryTests(SynchronousTestCase):
    """
    Twisted's plugin system finds virnet.
    """

    def setUp(self) -> None:
        self.environment = Environment(Path(self.mktemp()).absolute())

    def assertFound(self, dropin: Path, cwd: Path) -> None:
        """
        Both of Twisted's runners offer C{virnet}, from this drop-in and no other, and can load its options.
        """
        python = self.environment.python
        self.assertEqual(str(dropin), run(python, "-c", WHERE, cwd=cwd).strip())
        for runner in (("-m", "twisted"), ("-c", TWISTD)):
            self.assertIn("\n    virnet ", run(python, *runner, "--help", cwd=cwd))
            self.assertIn("--listen", run(python, *runner, "virnet", "--help", cwd=cwd))

    def test_wheel(self) -> None:
        self.environment.install(build().wheel)
        (packages,) = self.environment.path.glob("lib/python*/site-packages")
        self.assertFound(packages / "twisted" / "plugins" / "virnet_dropin.py", self.environment.empty)

    def test_editable(self) -> None:
        """
        Works from any directory, because the checkout itself is on the path (C{package_dir} in C{setup.cfg}).
        """
        self.environment.install("--editable", build().source)
        self.assertFound(build().source / "twisted" / "plugins" / "virnet_dropin.py", self.environment.empty)

    def test_checkout(self) -> None:
        """
        C{python -m twisted virnet} works in a checkout that is not installed.
        """
        self.assertFound(build().source / "twisted" / "plugins" / "virnet_dropin.py", build().source)
