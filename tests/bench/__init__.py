"""
Benchmarks against the peers: libvirtd, libvirt-python, AMP, Perspective Broker, xdrlib3. Begin reading in
L{tests.bench.__main__}.
"""
