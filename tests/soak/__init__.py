"""Hundreds of clients that do legal and illegal things for minutes; nothing must be left of them.

One command: C{python -m tests.soak}, five minutes; CI runs C{--seconds 60}. It ends with status 0 and a
line that says what was done, or with 1 and what was left behind.

What it notices was tried with leaks put into a copy of the server, in 20 seconds each: a client, a stream, a
descriptor, a file, a thread, a timer or a TLS session that stays, a subscription that outlives its client,
and 1 KiB a connection, in many pieces or in one. What it does not: less than 128 KiB in all, so in a short
run what few connections leave.

What is held at the end is compared with what was after a third of the time: by then all is there that is
needed once. Where it has grown all the same, a third is done again and compared once more: a leak goes on,
and what is needed once, but late, does not.
"""
