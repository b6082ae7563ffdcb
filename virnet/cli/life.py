"""
What starts and stops domains.

Each looks the domain up, makes one call, and says in a line what was done. The calls are the oldest that do
it: they work on every server.
"""

from __future__ import annotations

from virnet.cli.session import Session, lookup
from virnet.programs.constants import DomainCreateFlags


async def start(session: Session) -> None:
    """C{start}"""
    domain = await lookup(session.connection, session.options.domain)
    if session.options.paused:
        await session.connection.remote.domainCreateWithFlags(domain, DomainCreateFlags.START_PAUSED)
    else:
        await session.connection.remote.domainCreate(domain)
    session.output.line(f"Domain '{domain.name}' started")


async def shutdown(session: Session) -> None:
    """C{shutdown}"""
    domain = await lookup(session.connection, session.options.domain)
    await session.connection.remote.domainShutdown(domain)
    session.output.line(f"Domain '{domain.name}' is being shut down")


async def reboot(session: Session) -> None:
    """C{reboot}"""
    domain = await lookup(session.connection, session.options.domain)
    await session.connection.remote.domainReboot(domain, 0)
    session.output.line(f"Domain '{domain.name}' is being rebooted")


async def destroy(session: Session) -> None:
    """C{destroy}"""
    domain = await lookup(session.connection, session.options.domain)
    await session.connection.remote.domainDestroy(domain)
    session.output.line(f"Domain '{domain.name}' destroyed")


async def suspend(session: Session) -> None:
    """C{suspend}"""
    domain = await lookup(session.connection, session.options.domain)
    await session.connection.remote.domainSuspend(domain)
    session.output.line(f"Domain '{domain.name}' suspended")


async def resume(session: Session) -> None:
    """C{resume}"""
    domain = await lookup(session.connection, session.options.domain)
    await session.connection.remote.domainResume(domain)
    session.output.line(f"Domain '{domain.name}' resumed")
