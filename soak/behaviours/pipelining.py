"""Clients that send many requests at once and want the answers in their order."""

from __future__ import annotations

from ..client import WrongError, request
from ..content import checksum
from ..visit import Visit


async def pipelining(visit: Visit) -> None:
    """Answers of handlers, files, uploads and errors, all in one go; sent in odd pieces."""
    wire = await visit.connect()
    wanted: list[tuple[str, int, str]] = []
    sent = bytearray()
    for _ in range(visit.random.randrange(2, 60)):
        number = visit.number()
        choice = visit.random.randrange(4)
        if choice == 0:
            body = b"%d" % number * visit.random.randrange(1, 300)
            sent += request("PUT", "/raw", body)
            wanted.append(("raw", len(body), checksum(body)))
        elif choice == 1:
            sent += request("GET", f"/nowhere/{number}")
            wanted.append(("nowhere", 404, ""))
        elif choice == 2:
            sent += request("GET", "/files/3-5000.bin")
            wanted.append(("file", 5000, ""))
        else:
            sent += request("GET", f"/echo/{number}")
            wanted.append(("echo", number, ""))
    visit.counts.requests += len(wanted)
    at = 0
    while at < len(sent):
        piece = visit.random.choice((7, 100, 2000, 100_000))
        await wire.send(bytes(sent[at : at + piece]))
        at += piece
    for kind, number, found in wanted:
        answer = visit.took(await wire.answer()).checked(404 if kind == "nowhere" else 200)
        wrong = (
            (kind == "raw" and answer.json() != {"size": number, "checksum": found})
            or (kind == "file" and len(answer.body) != number)
            or (kind == "echo" and answer.json()["word"] != str(number))
        )
        if wrong:
            raise WrongError(f"the answer for {kind} {number} is {answer.body[:100]!r}")
