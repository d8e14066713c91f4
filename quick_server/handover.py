"""What one run of a script leaves to the next: listening sockets, and input that nobody has used yet.

So nobody is refused while a script restarts: who connects meanwhile waits in the kernel for the next
run. A run is started by a supervisor (see `supervisor.py`), or takes the place of the one before in the
same process. The environment variable QUICK_SERVER_HANDOVER says for which process it is meant, and
names descriptors: the channel to the supervisor, a note (JSON in an open file), and the listening
sockets. Processes that the script starts inherit the variable and none of the descriptors; to them it
means nothing, as they are not the process it names.

Any thread, under one lock. What is left is the process's own: a fork of it leaves nothing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

VARIABLE = "QUICK_SERVER_HANDOVER"

_MOST_DESCRIPTORS = 250  # the kernel passes 253 with one message


class Listening(NamedTuple):
    """The listening sockets of one server, and the address that it was asked for."""

    host: str
    port: int
    descriptors: list[int]
    order: int = 0
    """Servers with equal addresses are told apart by which was made first."""

    def close(self) -> None:
        """Closes the descriptors."""
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)


class Note(NamedTuple):
    """What a run tells when it ends: a text, and the descriptors that the text speaks of."""

    told: Mapping[str, Any]
    descriptors: Sequence[int] = ()

    def environment(self, meant_for: Mapping[str, int]) -> tuple[dict[str, str], int]:
        """Makes the descriptors inheritable; the variable that names them, and the note's own one."""
        paper = _write(self.told)
        for descriptor in (paper, *self.descriptors):
            os.set_inheritable(descriptor, True)
        text = json.dumps({**meant_for, "note": paper, "descriptors": list(self.descriptors)})
        return {VARIABLE: text}, paper

    def close(self) -> None:
        """Closes the descriptors."""
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)


_lock = threading.RLock()  # a signal's handler may come in between
_is_meant = True
_channel: socket.socket | None = None
_parent = 0
_untaken: list[Listening] = []
_kept: list[Listening] = []
_shared: set[int] = set()  # descriptors of sockets that the supervisor has, too
_input = b""
_forwarded: Counter[int] = Counter()


# who we are ---------------------------------------------------------------------------------------


def is_meant() -> bool:
    """Whether what the environment says about runs is about this process."""
    return _is_meant


def supervised() -> bool:
    """Whether a supervisor waits for this process to end."""
    return _channel is not None and os.getppid() == _parent


def forwarded(number: int) -> int:
    """How many signals of that number the supervisor has passed on so far, or is about to."""
    if _channel is not None:
        with suppress(OSError):
            _forwarded.update(_channel.recv(4096))
    return _forwarded[number]


# for the listener ---------------------------------------------------------------------------------


def take(host: str, port: int) -> list[socket.socket]:
    """The listening sockets that an earlier run had for that address; none if there are none."""
    with _lock:
        for groups in (_untaken, _kept):
            found = [group for group in groups if (group.host, group.port) == (host, port)]
            if found:
                first = min(found, key=lambda group: group.order)
                groups.remove(first)
                _shared.update(first.descriptors)
                return [socket.socket(fileno=descriptor) for descriptor in first.descriptors]
    return []


def release(port: int) -> None:
    """Nothing that was left for another address may be in the way of listening at that port."""
    _give_up([group for group in _untaken if port in map(_port_of, group.descriptors)])


def settle() -> None:
    """The script serves: what it has not taken by now is closed."""
    _give_up(list(_untaken))


def let_go(sock: socket.socket) -> None:
    """Before a listening socket is closed: ends its listening in the supervisor, too."""
    descriptor = sock.fileno()
    if descriptor in _shared:
        _shared.discard(descriptor)
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _give_up(groups: list[Listening]) -> None:
    with _lock:
        for group in groups:
            _untaken.remove(group)
            for descriptor in group.descriptors:
                with suppress(OSError), socket.socket(fileno=descriptor) as sock:
                    sock.shutdown(socket.SHUT_RDWR)


def _port_of(descriptor: int) -> int:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            port: int = sock.getsockname()[1]
            return port
    except OSError:
        return 0


# for the next run ---------------------------------------------------------------------------------


def keep(host: str, port: int, order: int, sockets: Sequence[socket.socket]) -> None:
    """These go on listening, although they will be closed here."""
    copies: list[int] = []
    try:
        copies += (os.dup(sock.fileno()) for sock in sockets)
    except OSError:  # closed already, or no descriptors are left: the next run binds anew
        Listening(host, port, copies).close()
        return
    with _lock:
        _shared.difference_update(sock.fileno() for sock in sockets)
        _kept.append(Listening(host, port, copies, order))


def keep_input(data: bytes) -> None:
    """Leaves `data`, read from standard input and not used, to the next run."""
    global _input
    with _lock:
        _input += data


def take_input() -> bytes:
    """What an earlier run has read from standard input and not used; b"" the second time."""
    global _input
    with _lock:
        data, _input = _input, b""
        return data


def drop() -> None:
    """There is no next run: its ports are free at once."""
    with _lock:
        while _kept:
            group = _kept.pop()
            _untaken.append(group)
            _give_up([group])


def leave(told: Mapping[str, Any]) -> None:
    """Hands to the supervisor what was kept, and what else it is `told`."""
    if _channel is None:
        return
    note = _note(told)
    paper = _write(note.told)
    with suppress(OSError):  # it is gone
        socket.send_fds(_channel, [b"\0"], [paper, *note.descriptors])
    os.close(paper)


def environment_for_exec() -> dict[str, str]:
    """What names the things that were kept to the program that takes this one's place."""
    return _note({}).environment({"process": os.getpid()})[0]


def _note(told: Mapping[str, Any]) -> Note:
    with _lock:
        groups = sorted([*_untaken, *_kept], key=lambda group: group.order)
        while sum(len(group.descriptors) for group in groups) > _MOST_DESCRIPTORS:
            groups.pop()
        listening = [[group.host, group.port, len(group.descriptors)] for group in groups]
        kept = {"listening": listening, "input": _input.decode("latin-1")}
        return Note({**told, **kept}, [d for group in groups for d in group.descriptors])


# for the supervisor -------------------------------------------------------------------------------


def receive(channel: socket.socket) -> Note | None:
    """What a run has left; None if it ended without a word. The channel must not block."""
    try:
        data, descriptors, _flags, _address = socket.recv_fds(channel, 1, _MOST_DESCRIPTORS + 1)
    except OSError:
        return None
    if not data or not descriptors:
        return None
    return Note(_read(descriptors[0]), descriptors[1:])


def _write(told: Mapping[str, Any]) -> int:
    """A descriptor of a nameless file with `told` in it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("quick_server")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    with open(descriptor, "wb", closefd=False) as file:
        file.write(json.dumps(told).encode())
    return descriptor


def _read(descriptor: int) -> dict[str, Any]:
    """What is written there; the descriptor is closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        told: dict[str, Any] = json.loads(file.read())
        return told


# at the beginning ---------------------------------------------------------------------------------


def _arrive() -> None:
    """Looks at what was left to this process, if anything was."""
    global _is_meant, _channel, _parent, _input
    text = os.environ.get(VARIABLE)
    if text is None:
        return
    try:
        told = json.loads(text)
        _is_meant = os.getpid() == told.get("process") or os.getppid() == told.get("parent")
        if not _is_meant:
            return
        if "channel" in told:
            _parent = told["parent"]
            _channel = socket.socket(fileno=told["channel"])
            _channel.set_inheritable(False)
            _channel.setblocking(False)
        descriptors = iter(told["descriptors"])
        note = _read(told["note"])
        for host, port, count in note["listening"]:
            group = Listening(host, port, [next(descriptors) for _ in range(count)], len(_untaken))
            for descriptor in group.descriptors:
                os.set_inheritable(descriptor, False)
            _untaken.append(group)
        _input = note["input"].encode("latin-1")
    except (OSError, ValueError, LookupError, AttributeError, TypeError, StopIteration):
        pass  # somebody has changed the variable, or closed what it names: there is nothing, then


def _forget() -> None:
    """In a fork: what was left was left to its parent."""
    global _channel, _lock
    _lock = threading.RLock()
    if _channel is not None:
        _channel.close()
        _channel = None
    for group in (*_untaken, *_kept):
        group.close()
    _untaken.clear()
    _kept.clear()
    _shared.clear()


_arrive()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
