"""Hundreds of clients that do legal and illegal things for minutes; nothing must be left of them.

One command: C{python -m tests.soak}, five minutes; CI runs C{--seconds 60}. It ends with status 0 and a
line that says what was done, or with 1 and what was left behind.
"""
