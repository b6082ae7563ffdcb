"""A hypervisor that is nothing but memory, with what libvirt's C{test:///default} has.

One module holds the procedures of one family of objects (L{domain<virnet.hypervisor.memory.domain>},
C{tuning}, C{snapshot}, C{stats}, C{network}, C{storage}, C{interface}, C{node}); what they act on is in
C{state}, and the documents are read and written in the modules whose names end in C{xml}.
"""

from virnet.hypervisor.memory.hypervisor import MemoryHypervisor

__all__ = ["MemoryHypervisor"]
