"""Methods for workers: how soon a result arrives once it is there, and how many jobs get done."""

import http.client
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from bench import measure, wrk
from bench.client import HEADER_LINES
from bench.field import SMALL_PAGE, Field, take_in_turn
from bench.model import CPU, DELIVERED, JOB_RATE, POLLED, Reading, Result
from bench.process import Server
from quick_server import worker_request

MICRO = 1e6
MILLI = 1e3
JOBS = 20  # at the same time
FIRST_DELAY, NEXT_DELAY, MORE_DELAY, LONGEST_DELAY = 0.5, 1.01, 0.01, 60.0


@dataclass(frozen=True, slots=True)
class Jobs:
    """Jobs that sleep and say when they woke up, and as many that do nothing."""

    path: str

    def measure(self, field: Field, result: Result) -> None:
        """Rounds of: a crowd of jobs that is waited for, one that is polled, and a run of wrk."""
        seconds = field.plan.seconds
        take_in_turn(field, result, SMALL_PAGE, lambda server: self.take(server, seconds))

    def take(self, server: Server, seconds: int) -> Reading:
        """One round."""
        url = server.address + self.path
        before = measure.cpu_seconds(server.process.pid)
        body = json.dumps({"action": "start", "payload": {"seconds": 0}})
        load = wrk.run(
            url,
            seconds,
            connections=8,
            headers=HEADER_LINES,
            script="echo.lua",
            arguments=(body,),
        )
        used = measure.cpu_seconds(server.process.pid) - before
        return {
            DELIVERED: delays(lambda number: waited_for(url, number)),
            POLLED: delays(lambda number: polled(url, number)),
            JOB_RATE: load.requests / load.seconds,
            CPU: used / load.requests * MICRO,
        }


def delays(follow: Callable[[int], float]) -> float:
    """The median of the milliseconds from the end of a job to its result, over a crowd of jobs."""
    with ThreadPoolExecutor(JOBS) as clients:
        return median(clients.map(follow, range(JOBS))) * MILLI


def payload(number: int) -> dict[str, float]:
    """Jobs of half a second to two and a half, so that they end at all phases of a poll."""
    return {"seconds": 0.5 + number * 0.1}


def waited_for(url: str, number: int) -> float:
    """Seconds from the end of a job until its result is here, for a client that waits."""
    ended: float = worker_request(url, payload(number))["ended"]
    return time.time() - ended


def polled(url: str, number: int) -> float:
    """The same for a client that asks now and then, at the pace of older ones."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)

    def ask(**message: object) -> dict[str, str | bool]:
        fields = {"Content-Type": "application/json"}
        connection.request("POST", "/" + path, json.dumps(message), fields)
        answer: dict[str, str | bool] = json.loads(connection.getresponse().read())
        return answer

    delay = FIRST_DELAY
    try:
        answer = ask(action="start", payload=payload(number))
        while not answer["done"]:
            time.sleep(delay)
            delay = min(max(delay * NEXT_DELAY, delay + MORE_DELAY), LONGEST_DELAY)
            answer = ask(action="get", token=answer["token"])
    finally:
        connection.close()
    ended: float = json.loads(str(answer["result"]))["ended"]
    return time.time() - ended
