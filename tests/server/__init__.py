"""The server over in-memory transports, with a raw peer; sockets only where the rule is about sockets."""
