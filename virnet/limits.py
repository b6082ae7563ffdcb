"""Every limit of the protocol and of this implementation, with its source and its reason.

Sizes are in bytes unless the name says otherwise.
"""

from __future__ import annotations

LENGTH_SIZE = 4
"""The length word in front of a message (C: C{VIR_NET_MESSAGE_LEN_MAX}). It counts itself."""

HEADER_SIZE = 24
"""Six words behind the length (C: C{VIR_NET_MESSAGE_HEADER_MAX})."""

MESSAGE_MIN = LENGTH_SIZE + HEADER_SIZE
"""The smallest legal value of the length word."""

MESSAGE_MAX = 33554432
"""The largest message without its length word (C: C{VIR_NET_MESSAGE_MAX}); libvirt since 1.2 or so."""

PAYLOAD_MAX = MESSAGE_MAX - HEADER_SIZE
"""The largest payload (C: C{VIR_NET_MESSAGE_PAYLOAD_MAX})."""

STREAM_CHUNK = 262120
"""Bytes of stream data in a packet unless told otherwise (C: C{VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX}): what
peers with the old fixed buffers can take, and what libvirt still sends."""

HOLE_MAX = (1 << 63) - 1
"""The longest hole of a stream (C: C{virNetStreamHole.length}, a signed hyper)."""

STRING_MAX = 4194304
"""The longest string in any message (C: C{VIR_NET_MESSAGE_STRING_MAX})."""

MESSAGE_FDS_MAX = 32
"""File descriptors that travel with one message (C: C{VIR_NET_MESSAGE_NUM_FDS_MAX})."""

MAX_CLIENTS = 5000
"""Connections of one server, over all its services (C{max_clients} of C{libvirtd.conf})."""

MAX_QUEUED_CLIENTS = 1000
"""Connections that wait to be accepted, for each socket (C{max_queued_clients} of C{libvirtd.conf})."""

QUEUED_CLIENTS_MIN = 30
"""What a C{max_queued_clients} of 0 stands for."""

MAX_ANONYMOUS_CLIENTS = 20
"""Connections that have to authenticate and have not yet (C{max_anonymous_clients} of C{libvirtd.conf})."""

HELD_CLIENTS_MAX = 1000
"""Connections beyond the limits that were accepted all the same, and wait unread: Twisted accepts up to a few
hundred at a time, and some endpoints cannot be told to stop."""

MAX_CLIENT_REQUESTS = 5
"""Requests of one client in progress (C{max_client_requests} of C{libvirtd.conf})."""

MIN_WORKERS = 5
"""Threads for blocking implementations that start at once (C{min_workers} of C{libvirtd.conf})."""

MAX_WORKERS = 20
"""The most threads for blocking implementations (C{max_workers} of C{libvirtd.conf})."""

PRIO_WORKERS = 5
"""Further threads, which run high-priority procedures alone (C{prio_workers} of C{libvirtd.conf})."""

UNIX_PATH_MAX = 107
"""The longest path of a UNIX socket (C{sun_path} of Linux, less its terminating zero)."""

ACCEPT_PAUSE = 5.0
"""Seconds that a service accepts nobody after there was no descriptor for a connection, as libvirt's."""

HANG_UP_INTERVAL = 5.0
"""Seconds between two looks whether clients that are not read because of the server are still there."""

STOP_GRACE = 5.0
"""Seconds that a client which does not read may hold up the server's stop before it is cut off."""

XML_MAX = STRING_MAX
"""Bytes of one XML document that a hypervisor reads: as much as one message can carry."""

XML_DEPTH_MAX = 256
"""Levels of elements in one XML document: what libxml2, and so libvirt, takes."""

XML_ELEMENTS_MAX = 16384
"""Elements of one XML document: far beyond any real one (a device has about ten), far below what keeps a
server from its other clients for long: half a second."""

XML_ATTRIBUTES_MAX = 65536
"""Attributes of all elements of one XML document, for the same reason."""

SEND_BUFFER = 65536
"""Bytes that may wait for a socket before producers are paused; Twisted's own figure."""

DESCRIPTORS_UNCLAIMED_MAX = 64
"""Received descriptors that may wait for a message to announce them: those of one message, and of the next
while reading is held back."""

DESCRIPTORS_RESERVED = 256
"""Open files of the daemon besides one for each client: what listens, logs, volumes, children."""

STREAM_BUFFER = 2097152
"""Bytes of a stream that wait at the client for a reader before the connection is not read any more."""

STREAM_MEMORY = 8388608
"""Bytes of a block that is freed once, so that memory for the pieces of streams is kept: a full buffer, as
much that is being written, and copies. Free memory of up to twice that stays with the process."""

READ_MIN = 65536
"""Bytes that are read from a socket at a time as long as no more come."""

READ_MAX = 524288
"""Bytes that are read from a socket at a time after a read that brought L{READ_MIN} or more; by so many
fewer with each that brings less, since the pieces of a stream have small ones between them."""

READ_LARGE = 4096
"""Bytes of one read from which on it is not a call, or a few of somebody who waits for each answer, but part
of much: where it ends within a message, the rest is likely on its way, since it did not fit into the socket
of whoever sends it."""

FILE_CHUNK = 1048576
"""Bytes of a file that are read or written in one turn of a thread."""

AUTHORITIES_MAX = 16
"""Certificates of one CA file (C: C{MAX_CERTS})."""

CREDENTIAL_FILE_MAX = 65536
"""Bytes of a file with certificates or a key: what libvirt reads of one."""

AUTHENTICATION_TIMEOUT = 120
"""Seconds in which a client has to authenticate, if it has to: time for a person to type a password, as with
sshd's C{LoginGraceTime}. libvirtd waits for ever: so many silent strangers as C{max_anonymous_clients} says
keep all others out."""

UNAUTHENTICATED_MESSAGE_MAX = 270336
"""The largest message of a client that has to authenticate and has not: the data of a SASL step (65536 words
of four bytes), and room for the rest. libvirtd takes messages of any size from strangers."""

FAULTS_LOGGED = 20
"""Messages of one connection that make no sense, and failures to authenticate, of which each has a line in
the log. Beyond that only each doubling of their number has one: a message of 28 bytes must not fill a disk
with lines of 500."""

POLKIT_MESSAGE_MAX = 4096
"""Bytes of what C{pkcheck} prints that are looked at."""

KEEPALIVE_INTERVAL = 5
"""Seconds of silence before a PING (C{keepalive_interval} of C{libvirtd.conf}; virsh's C{-k})."""

KEEPALIVE_COUNT = 6
"""PINGs that may stay unanswered by a server (virsh's C{-K})."""

SERVER_KEEPALIVE_COUNT = 5
"""PINGs that may stay unanswered by a client (C{keepalive_count} of C{libvirtd.conf})."""

CALLS_IN_FLIGHT = 32
"""Calls of a lasting connection that wait for their answers; further ones wait to be sent. A server works on
five of a client at a time (C{max_client_requests}); what is beyond that waits at the server, and keeps it
from reading this client's keepalive."""

OPEN_SECONDS = 30.0
"""Until a lasting connection gives up one attempt to connect and open."""

RECONNECT_DELAY_MAX = 60.0
"""Seconds, besides the jitter, between two attempts of a lasting connection to connect."""

EVENTS_WAITING = 1024
"""Events that wait for who iterates over them."""

MAX_EVENT_BACKLOG = 2097152
"""Bytes of events that may wait for a client that does not read: some 30,000 of a life cycle. libvirtd
has no such limit, and its memory goes to whoever stops reading."""

TLS_HANDSHAKE_SECONDS = 15.0
"""From when a connection is read until its TLS handshake is through. libvirt has no such limit; who says
nothing would keep others out for ever."""

TLS_LINGER_SECONDS = 2.0
"""Until a client's connection is closed whose certificate OpenSSL has refused, if it does not close it
itself. It is still sending its part of the handshake, and virsh dies of SIGPIPE when nobody takes that."""

TLS_PIECE = 524288
"""Bytes that are encrypted at a time: whole records, and more than a packet of a stream has."""

SASL_DATA_MAX = 65536
"""Bytes of one step of a SASL exchange (C: C{REMOTE_AUTH_SASL_DATA_MAX})."""

SASL_PACKET_MAX = 65536
"""The largest packet of a SASL security layer that is taken, without its length; libvirt asks for it too."""

SASL_BLOCK_MIN = 1024
"""Bytes of a message that fit into one packet, at least: a peer that takes less would have messages cut into
crumbs."""

SASL_MIN_SSF = 56
"""Bits of protection that a plain TCP connection needs (C{tcp_min_ssf} of C{libvirtd.conf})."""

SASL_MIN_SSF_CONFIGURED = 112
"""The least that a daemon can be told to want instead; libvirtd refuses less too."""

SASL_MAX_SSF = 100000
"""More bits than any protection has."""

SCRAM_MESSAGE_MAX = 1024
"""Bytes, and characters after normalization, of a SCRAM message that a server looks at. What SASLprep does
with a name of 64 KiB takes a second, in which nobody else is served."""

SCRAM_ITERATIONS = 65536
"""How often a new SCRAM password is hashed. RFC 7677 wants 4096 at least; a client takes 20 ms for it."""

SCRAM_ITERATIONS_MAX = 2000000
"""The most that a client does for a server: a second or two."""

UPLOAD_HEAD = 131072
"""Bytes at the beginning of a volume that an upload sends last: fewer than a packet has, so that they are
written in one go; more than partition tables, boot sectors and the headers of image formats have."""

HTTP_BUFFER = 524288
"""Bytes of a response that wait for the libvirt server before the HTTP connection is not read any more."""

HTTP_REDIRECTS = 5
"""Redirects that are followed for a volume's source."""

HTTP_STALL = 30.0
"""Seconds of silence that are a cut."""

HTTP_RETRIES = 5
"""Attempts in a row to go on after a cut that may bring nothing."""
