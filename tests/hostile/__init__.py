"""Attacks, each in a module of its name, against the whole server and the whole client.

What they have in common: whatever the peer does, no exception escapes, nothing grows without bound, and
nobody else notices.
"""
