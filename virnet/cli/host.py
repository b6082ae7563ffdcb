"""What the server says about itself: C{uri}, C{hostname}, C{version}."""

from __future__ import annotations

from virnet._version import __version__
from virnet.cli.output import Output
from virnet.cli.session import Session, ifSupported


async def uri(session: Session) -> None:
    """C{uri}"""
    _text(session.output, await session.connection.remote.connectGetURI())


async def hostname(session: Session) -> None:
    """C{hostname}"""
    _text(session.output, await session.connection.remote.connectGetHostname())


async def version(session: Session) -> None:
    """C{version}"""
    remote = session.connection.remote
    library = await ifSupported(remote.connectGetLibVersion())
    kind = await ifSupported(remote.connectGetType())
    hypervisor = await ifSupported(remote.connectGetVersion())
    found = {
        "virnet": __version__,
        "server": None if library is None else dotted(library),
        "hypervisor": kind,
        "hypervisorVersion": None if hypervisor is None else dotted(hypervisor),
    }
    if session.output.asJSON:
        session.output.data(found)
        return
    shown = {key: "-" if value is None else value for key, value in found.items()}
    session.output.pairs(
        [
            ("virnet", shown["virnet"]),
            ("Server", f"libvirt {shown['server']}"),
            ("Hypervisor", f"{shown['hypervisor']} {shown['hypervisorVersion']}"),
        ]
    )


def dotted(number: int) -> str:
    """A version as libvirt counts them: 9000000 is 9.0.0."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def _text(output: Output, text: str) -> None:
    if output.asJSON:
        output.data(text)
    else:
        output.line(text)
