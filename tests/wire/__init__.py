"""The sans-IO core: bytes in, events out, checked without a transport, a reactor or a clock."""
