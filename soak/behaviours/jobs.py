"""Clients of workers: results short and long, shared, in processes; and jobs that nobody waits for."""

from __future__ import annotations

import json
from typing import Any

from ..client import Wire, WrongError
from ..content import checksum, text
from ..visit import Visit

_WAIT = 5000
"""Milliseconds that an answer may be held back."""


async def jobs(visit: Visit) -> None:
    """Starts a job and reads its result, which comes in pieces if it is long."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 4)):
        kind = visit.random.choice(("thread", "thread", "process", "cached", "cached"))
        payload = {
            "number": visit.random.randrange(20),
            "size": visit.random.choice((10, 10, 3_000, 100_000, 1_000_000)),
            "steps": visit.random.choice((0, 0, 5, 20)),
        }
        url = f"/job/{kind}"
        answer = await _act(visit, wire, url, action="start", payload=payload, wait=_WAIT)
        while answer["continue"] and not answer["done"]:
            answer = await _act(visit, wire, url, action="get", token=answer["token"], wait=_WAIT)
        if not answer["done"]:
            raise WrongError(f"the job {kind} is not known any more: {answer}")
        result = answer["result"]
        if answer["continue"]:
            pieces = [await _act(visit, wire, url, action="cargo", token=token) for token in result]
            result = "".join(piece["result"] for piece in pieces)
        wanted = text(payload["number"], payload["size"])
        if json.loads(result) != {"text": wanted, "checksum": checksum(wanted.encode())}:
            raise WrongError(f"the job {kind} has another result for {payload}")


async def unwanted_jobs(visit: Visit) -> None:
    """Stops a job, forgets one, leaves while one is waited for, or does not fetch its pieces."""
    wire = await visit.connect()
    choice = visit.random.randrange(4)
    if choice == 0:
        answer = await _act(visit, wire, "/job/unending", action="start", payload={})
        stopped = await _act(visit, wire, "/job/unending", action="stop", token=answer["token"])
        if stopped["continue"]:
            raise WrongError(f"a job that was stopped is {stopped}")
    elif choice == 1:
        payload = {"number": visit.number(), "size": 100, "steps": 10}
        await _act(visit, wire, "/job/thread", action="start", payload=payload)
    elif choice == 2:
        visit.counts.requests += 1
        message = json.dumps({"action": "start", "payload": {}, "wait": _WAIT}).encode()
        await wire.ask("POST", "/job/unending", message, Content_Type="application/json")
        wire.reset()
    else:
        payload = {"number": visit.number(), "size": 300_000, "steps": 0}
        await _act(visit, wire, "/job/process", action="start", payload=payload, wait=_WAIT)


async def _act(visit: Visit, wire: Wire, url: str, **message: Any) -> Any:
    body = json.dumps(message).encode()
    answer = await visit.request(wire, "POST", url, body, Content_Type="application/json")
    return answer.checked().json()
