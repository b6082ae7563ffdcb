"""Statistics of many domains in one call.

Rules:

  - As of the test driver there is one group of statistics: C{state}. Others are left out, or refused if the
    caller insists.
  - Domains that are gone, and those the filter does not let through, are left out.
"""

from __future__ import annotations

from virnet.errorcodes import ErrorDomain, ErrorNumber
from virnet.errors import RemoteError
from virnet.hypervisor.memory.checks import checkFlags
from virnet.hypervisor.memory.domain import listed
from virnet.hypervisor.memory.state import MemoryDomain, MemoryState
from virnet.programs import IDomain, partialImplementer
from virnet.programs.constants import ConnectGetAllDomainStatsFlags, DomainStatsTypes
from virnet.programs.typedparams import Int, TypedParams
from virnet.programs.values import Domain, DomainStatsRecord

_ENFORCE = ConnectGetAllDomainStatsFlags.ENFORCE_STATS
_FILTERS = 0xFF
SUPPORTED = DomainStatsTypes.STATE


@partialImplementer(IDomain)
class DomainStats:
    """Provides the statistics of domains."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def connectGetAllDomainStats(self, doms: list[Domain], stats: int, flags: int) -> list[DomainStatsRecord]:
        """Collect statistics.

        @param doms: of these domains; empty for all.
        @param stats: L{DomainStatsTypes}; 0 for all there are.
        """
        # NOWAIT and BACKING say how to find out what is not found out here.
        known = _FILTERS | sum(ConnectGetAllDomainStatsFlags)
        checkFlags("testConnectGetAllDomainStats", flags, known)
        unsupported = stats & ~int(SUPPORTED)
        if unsupported and flags & _ENFORCE:
            detail = f"Stats types bits {unsupported:#x} are not supported by this daemon"
            raise RemoteError.of(ErrorNumber.ARGUMENT_UNSUPPORTED, detail, ErrorDomain.TEST)
        wanted = SUPPORTED if not stats else stats & SUPPORTED
        if doms:
            found = [self._state.domains.byUUID(dom.uuid) for dom in doms]
        else:
            found = list(self._state.domains)
        fits = listed(flags & _FILTERS)
        return [
            DomainStatsRecord(domain.reference, _stats(domain, wanted))
            for domain in found
            if domain is not None and fits(domain)
        ]


def _stats(domain: MemoryDomain, wanted: int) -> TypedParams:
    params = TypedParams()
    if wanted & DomainStatsTypes.STATE:
        params.add("state.state", Int(domain.state))
        params.add("state.reason", Int(domain.reason))
    return params
