"""Generated: the interfaces of each program."""
