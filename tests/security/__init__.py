"""Identities, authentication and access."""
