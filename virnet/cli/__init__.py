"""The C{virnet} command: libvirt from a shell, on virnet's client."""
