"""Every size and timeout of the server, each with its reason.

One frozen object is made per server and handed down, so that a connection never asks a setting that
changes while it lives. Sizes are bytes, times are seconds.
"""

from __future__ import annotations

from typing import NamedTuple

KIB = 1024
MIB = 1024 * KIB


class Limits(NamedTuple):
    """What a client may ask of this server at most."""

    request_line: int = 8 * KIB
    """RFC 9112 section 3 recommends at least 8,000 octets; past it 414."""
    head: int = 16 * KIB
    """The request line and all fields together; what nginx and most proxies take. Past it 431."""
    fields: int = 100
    """Header fields; browsers send about 20. Past it 431."""
    chunk_extension: int = 256
    """Nobody uses chunk extensions, and they are unbounded by grammar. Past it 400."""
    chunk_overhead: int = 16 * KIB
    """Bytes of chunk framing that any body may have, beyond what its own size earns. Past it 400."""
    unread_body: int = 64 * KIB
    """A body that nobody wants is read and dropped up to here; closing is cheaper than more."""
    ranges: int = 16
    """Of one request; who asks for more gets the whole, as many small parts cost more than that."""

    json_nesting: int = 100
    """Levels of a JSON body; recursive functions are what handlers walk over them with. Past it 400."""
    form_fields: int = 10_000
    """Of an urlencoded form: each is an entry of a dict. Past it 413."""
    form: int = 1024 * MIB
    """A multipart form as a whole (or `max_file_size`): its files may fill a disk. Past it 413."""
    form_parts: int = 1000
    """Each has a head to be parsed. Past it 413."""
    form_part_head: int = 8 * KIB
    """Of one part; a name, a file name and a type. Past it 413."""
    form_fringe: int = 64 * KIB
    """What stands before the first part and behind the last one, where nothing should. Past it 400."""
    form_file_in_memory: int = 1 * MIB
    """Larger files of a form are written to the disk while they arrive."""
    form_in_memory: int = 8 * MIB
    """So are all others once they are that large together."""
    form_files_on_disk: int = 64
    """Each is a descriptor while its handler runs. Past it 413."""

    jobs_in_line: int = 1000
    """Jobs that wait to be computed; past it 503. Who waits behind more has given up."""
    job_payloads: int = 512 * MIB
    """What jobs that have not ended were started with, as it was sent, together; past it 503."""
    jobs: int = 100_000
    """All that are known, 3 KB each: one may share another's computation, and may have ended unread.
    Past it 503."""
    result_timeout: float = 120.0
    """A job's result waits for its reader; clients ask at least once a minute."""
    cargo_timeout: float = 600.0
    """So does each piece of a long one: reading the ones before it takes its time."""
    kept_results: int = 1024 * MIB
    """Results that nobody has read, together; past it the oldest go."""

    stream_ahead: int = 128 * KIB
    """What may wait for one side of a stream; past it the other side is not asked for more."""
    event_ahead: int = 256 * KIB
    """Events that a client has not taken; past it that client is cut off, and comes back."""

    read_chunk: int = 64 * KIB
    """One `recv`: the most that one connection takes in one turn of the loop."""
    body_chunk: int = 512 * KIB
    """The same while a body arrives: larger pieces make uploads twice as fast."""
    send_slice: int = 512 * KIB
    """One `sendfile`: what one download may keep the loop busy with in one turn."""
    small_file: int = 64 * KIB
    """Files up to here are read whole in the pool and leave in one piece with their head."""

    head_timeout: float = 10.0
    """From the first moment of a connection, or the first byte of a request, to its whole head."""
    idle_timeout: float = 60.0
    """A kept connection without a request."""
    body_timeout: float = 30.0
    """A body of which nothing arrives."""
    write_timeout: float = 30.0
    """A client that takes nothing of its answer."""
    continue_timeout: float = 1.0
    """How long content waits for an upstream's 100 before it is sent all the same (RFC 9110 10.1.1)."""
    first_byte_timeout: float = 60.0
    """An upstream that has the request and does not begin to answer; past it 504."""
    upstream_silence: float = 600.0
    """An upstream that stops in the midst of its answer; event streams may be silent for minutes."""
    tunnel_idle: float = 600.0
    """A tunnel through which nothing passes; WebSockets ping every minute or so."""
    linger_timeout: float = 2.0
    """After an error: how long what still arrives is read and dropped, so that the answer is read."""
    join_timeout: float = 1.0
    """How long closing waits for pool threads; they are daemons, so a stuck handler is left behind."""

    max_connections: int = 16_384
    """At the same time, 2 to 4 KB each; one more takes the place of the one idle the longest."""
    backlog: int = 1024
    """Connections the kernel holds until they are accepted: a burst of several hundred is normal."""
    accepts_per_turn: int = 64
    """So that a flood of new connections does not starve those that are there."""
    accept_pause: float = 0.1
    """How long accepting rests when the process is out of descriptors or memory."""
    threads: int = 8
    """Handlers and file reads at the same time."""
    queued_jobs: int = 4096
    """Jobs waiting for a pool thread; past it 503. Each is a request of a connection of its own."""

    connect_timeout: float = 5.0
    """To an upstream: name, connection and TLS together. A lost SYN is sent again after 1 s and 3 s."""
    upstream_idle: float = 30.0
    """A kept connection to an upstream; most servers end theirs within a minute."""
    upstream_idle_connections: int = 16
    """Kept for each origin: connecting anew is what more requests at a time than that pay."""
    upstream_idle_total: int = 128
    """Kept for all origins together: descriptors are needed for clients."""
