"""The C{virnet} command."""
