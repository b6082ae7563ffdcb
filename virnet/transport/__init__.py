"""Twisted around L{virnet.wire}: the protocol shell, URIs, endpoints."""
