"""What is said on one connection: the bytes of a case, what comes back, and how it ends.

Once the answers that are due are there, a probe follows on the same connection: a request that asks for
the connection to be closed after it. It is answered exactly if the server has kept the connection, and
has read what came before as it was meant: whatever the server took for a request of its own shows as an
answer too many.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from tests.conformance.reader import EndError, MalformedError, Reader
from tests.harness import Answer

PROBE = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

Step = bytes | Literal["an answer", "end of sending"]
"""Bytes that are sent; or what is waited for or done between them."""
End = Literal["kept", "closed", "open"]
"""`kept`: the probe was answered; `closed`: by the server; `open`: neither of them in time."""


@dataclass
class Talk:
    """What came back."""

    interim: list[Answer] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """The final ones, without that to the probe."""
    end: End = "open"
    fault: str = ""
    """What no server may do whatever it was asked; empty if nothing of the kind happened."""

    @property
    def answer(self) -> Answer:
        """The last answer; one of status 0 if there is none."""
        return self.answers[-1] if self.answers else Answer("", 0, "", [])

    def __str__(self) -> str:
        """In few words.

        >>> str(Talk(answers=[Answer("HTTP/1.1", 400, "", [])], end="closed"))
        '400, closed'
        """
        statuses = [str(answer.status) for answer in [*self.interim, *self.answers]]
        if self.fault:
            statuses.append(self.fault)
        elif not statuses:
            return "closed without answer" if self.end == "closed" else "no answer"
        else:
            statuses.append("then silence" if self.end == "open" else self.end)
        return ", ".join(statuses)


def talk(
    address: tuple[str, int], steps: Sequence[Step], expected: Sequence[str], patience: float
) -> Talk:
    """Goes through the steps, then reads the answers to requests of the expected methods.

    A method may be followed by the version of its request: `"GET 1.0"`. Nothing is waited for longer
    than `patience` seconds.
    """
    with socket.create_connection(address, timeout=patience) as sock:
        return _Conversation(sock, expected).whole(steps)


class _Conversation:
    """One run of `talk`."""

    def __init__(self, sock: socket.socket, expected: Sequence[str]) -> None:
        self._sock = sock
        self._reader = Reader(sock)
        self._due = list(expected)
        self._talk = Talk()

    def whole(self, steps: Sequence[Step]) -> Talk:
        talk = self._talk
        with suppress(TimeoutError):
            try:
                self._go_through(steps)
                self._read_answers()
                self._probe("end of sending" not in steps)
            except EndError:
                talk.end = "closed"
            except MalformedError as error:
                talk.fault = str(error)
        if not talk.fault:
            talk.fault = self._fault()
        return talk

    def _go_through(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step == "an answer":
                self._read()
            elif step == "end of sending":
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_WR)
            else:
                assert isinstance(step, bytes)
                self._send(step)

    def _send(self, data: bytes) -> None:
        with suppress(
            ConnectionResetError, BrokenPipeError
        ):  # it has answered and closed: that is read
            self._sock.sendall(data)

    def _read(self) -> None:
        method, _, version = self._due[0].partition(" ")
        answer = self._reader.answer(method, version or "1.1")
        if answer.status == 101 or answer.status >= 200:
            self._talk.answers.append(answer)
            del self._due[0]
        else:
            self._talk.interim.append(answer)

    def _read_answers(self) -> None:
        while self._due:
            self._read()

    def _probe(self, may_send: bool) -> None:
        """Reads to the end; what comes besides the answer to the probe is an answer too many."""
        if may_send:
            self._send(PROBE)
        extra = []
        try:
            while True:
                extra.append(self._reader.answer("GET"))
        except EndError:
            pass
        kept = bool(extra) and extra[-1].status == 200 and extra[-1].body == b"hello"
        self._talk.answers += extra[:-1] if kept else extra
        self._talk.end = "kept" if kept else "closed"
        if len(extra) > kept:
            raise MalformedError("an answer too many")

    def _fault(self) -> str:
        """What is wrong between what the answers say and what has happened."""
        said = "close" in (self._talk.answer.get("connection") or "").lower()
        return "said close and did not" if said and self._talk.end != "closed" else ""
