"""virnet's daemon: what C{twistd virnet} runs."""
