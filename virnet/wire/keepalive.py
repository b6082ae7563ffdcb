"""The keepalive program: PING is answered by PONG, always, by both sides, whatever was negotiated.

Both are events without payload and with serial 0. Anything else of the program is ignored.
"""

from __future__ import annotations

from virnet.wire.message import MESSAGE, OK, encodeMessage

PROGRAM = 0x6B656570
VERSION = 1
PING = 1
PONG = 2

PING_MESSAGE = encodeMessage(PROGRAM, VERSION, PING, MESSAGE, 0, OK)
PONG_MESSAGE = encodeMessage(PROGRAM, VERSION, PONG, MESSAGE, 0, OK)
