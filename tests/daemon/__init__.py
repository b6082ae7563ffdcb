"""What C{twistd virnet} runs."""
