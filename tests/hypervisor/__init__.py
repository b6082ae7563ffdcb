"""The session between server and hypervisor, and the hypervisor in memory, without a transport."""
