"""Tests of L{virnet.testing}."""
