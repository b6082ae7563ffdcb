"""The RPC protocol without I/O: messages, framing, calls, both ends of a connection.

Nothing here imports Twisted, reads a clock or opens a file: bytes come in, events go out.
"""
