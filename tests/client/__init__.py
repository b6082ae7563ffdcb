"""The client over in-memory transports, with a scripted server."""
