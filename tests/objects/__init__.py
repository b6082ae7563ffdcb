"""Tests of L{virnet.objects}."""
