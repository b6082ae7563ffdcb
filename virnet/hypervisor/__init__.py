"""
What a server manages: the session every hypervisor shares, and the hypervisors.

  - L{virnet.hypervisor.session}: what libvirt's daemon does between the RPC and a driver.
  - L{virnet.hypervisor.memory}: the embedded default, with what libvirt's C{test:///default} has.
"""
