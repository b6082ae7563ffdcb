"""Generated: the types and the procedures of each program."""
