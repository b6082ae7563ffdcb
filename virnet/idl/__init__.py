"""The C{.x} language: RFC 4506 section 6, what rpcgen adds to it, and the annotations of libvirt's files.

It does what rpcgen and libvirt's C{gendispatch} do in C: C{python -m virnet.idl FILE.x} writes tables,
interfaces and value classes; L{Program.fromIDL<virnet.programs.base.Program.fromIDL>} makes a program
without writing anything. Only this package needs C{lark}.

A text goes through L{preprocess<virnet.idl.preprocess>} (lines of C's preprocessor),
L{parser<virnet.idl.parser>} (grammar), L{model<virnet.idl.model>} (names resolved, contradictions found),
L{names<virnet.idl.names>} (what things are called in Python) and L{emit<virnet.idl.emit>} (Python source).
"""
