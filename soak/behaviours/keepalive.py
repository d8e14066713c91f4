"""Clients as they should be: several requests on one connection, one after the other."""

from __future__ import annotations

import json

from ..client import WrongError
from ..content import checksum, text
from ..visit import Visit


async def keepalive(visit: Visit) -> None:
    """Small answers and larger ones; some requests of a method that is not allowed, or of no path."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 20)):
        number, size = visit.number(), visit.size(500_000)
        choice = visit.random.randrange(6)
        if choice == 0:
            (await visit.request(wire, "GET", f"/nowhere/{number}")).checked(404)
        elif choice == 1:
            (await visit.request(wire, "DELETE", "/echo/x")).checked(405)
        elif choice == 2:
            (await visit.request(wire, "HEAD", f"/content/{number}/{size}")).checked()
        elif choice == 3:
            code = visit.random.choice((400, 403, 404, 409, 418, 429))
            (await visit.request(wire, "GET", f"/refuse/{code}")).checked(code)
        elif choice == 4:
            word = text(number, 1 + size % 200)
            found = (await visit.request(wire, "GET", f"/echo/{word}?a={number}&b")).checked().json()
            wanted = {
                "word": word,
                "query": {"a": str(number), "b": True},
                "checksum": checksum(word.encode()),
            }
            if found != wanted:
                raise WrongError(f"{word} came back as {found}")
        else:
            answer = (await visit.request(wire, "GET", f"/content/{number}/{size}")).checked()
            if len(answer.body) != size:
                raise WrongError(f"{len(answer.body)} bytes for {size}")


async def json_bodies(visit: Visit) -> None:
    """Bodies of up to 1 MB there and back."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 6)):
        texts = [text(visit.number(), visit.size(200_000)) for _ in range(visit.random.randrange(6))]
        body = json.dumps({"texts": texts}).encode()
        fields = {"Content_Type": "application/json"}
        found = (await visit.request(wire, "POST", "/json", body, **fields)).checked().json()
        if found != {"found": [checksum(item.encode()) for item in texts], "texts": texts}:
            raise WrongError("other texts came back")


async def tokens(visit: Visit) -> None:
    """Counting under a token that nobody else has."""
    wire = await visit.connect()
    token = (await visit.request(wire, "POST", "/token")).checked().json()["token"]
    for turn in range(1, visit.random.randrange(2, 8)):
        found = (await visit.request(wire, "POST", f"/token/{token}")).checked().json()
        if found != {"count": turn}:
            raise WrongError(f"the {turn}. time is {found}")
