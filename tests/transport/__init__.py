"""URIs, endpoints, and what stands between a socket and the core."""
