"""What is measured, against whom, and what ours has to reach: a table, to be read as one."""

import json

from bench.client import Request
from bench.field import HUGE_FILE, LARGE_FILE, SMALL_PAGE, TINY_FILE
from bench.idle import FirstAnswer, IdleConnections, Sleep
from bench.jobs import Jobs
from bench.load import Bodies, Polite, Requests, Tail, Upload
from bench.model import (
    CPU,
    DELIVERED,
    EVENT_RATE,
    FIRST_BYTE,
    IDLE_CPU,
    JOB_RATE,
    MEMORY,
    MEMORY_BEFORE,
    MEMORY_EACH,
    MEMORY_GROWTH,
    P99,
    P99_ALONE,
    P99_DOWNLOADS,
    P99_PIPELINE,
    POLLED,
    RATE,
    SLOW_CPU,
    SLOW_RATE,
    SLOWDOWN,
    START,
    THREADS,
    THROUGHPUT,
    WAKE_UPS,
    Work,
)
from bench.proxied import Events, Proxied
from bench.servers.data import rows

HELLO = Request("/api/hello", {"hello": "world"})
SLOW = Request("/api/slow", {"hello": "at last"})
ROWS = Request("/api/rows", rows())

# About 1 KB: what a page sends when it asks for a selection.
SELECTION = {
    "columns": ["sepal length", "sepal width", "petal length", "petal width", "species"],
    "filter": {"species": ["setosa", "virginica"], "sepal length": [4.3, 7.9]},
    "note": "ä selection with text that is not all ASCII",
    "picked": [number * 7 % 150 for number in range(165)],
}
ECHO_BODY = json.dumps(SELECTION)
ECHO = Request("/api/echo", SELECTION, "POST", ECHO_BODY)

FLAT = 8.0  # MB; what buffers may take while the memory still counts as flat

POOL = 16  # threads; a loop and a pool, not one for each connection

LOAD_METRICS = (RATE, CPU, P99)

WORKS = (
    Work(
        "hello",
        "small JSON, the same browser-sized head each time",
        Requests(HELLO),
        LOAD_METRICS,
        {"bare": 0.25, "waitress": 4, "uvicorn": 1.3, "uvicorn-h11": None, "granian": 1},
    ),
    Work(
        "query",
        "small JSON, a new query string each time",
        Requests(HELLO, "query.lua"),
        LOAD_METRICS,
        {"waitress": 2, "uvicorn": 1},
    ),
    Work(
        "heads",
        "small JSON, no two heads alike",
        Requests(HELLO, "heads.lua"),
        LOAD_METRICS,
        {"waitress": 1, "uvicorn-h11": 1.5},
    ),
    Work(
        "echo",
        "1 KB of JSON posted and echoed",
        Requests(ECHO, "echo.lua", (ECHO_BODY,)),
        LOAD_METRICS,
        {"waitress": 1.5, "starlette": 1.5},
    ),
    Work(
        "file",
        "10 KB file",
        Requests(SMALL_PAGE),
        LOAD_METRICS,
        {"aiohttp": 8, "starlette": 8, "http.server": 8, "nginx": 0.25},
    ),
    Work(
        "download",
        "64 MB file, 8 clients",
        Bodies(LARGE_FILE, connections=8),
        (THROUGHPUT, SLOW_CPU, P99, MEMORY_BEFORE, MEMORY_GROWTH),
        {"nginx": 0.9},
        {MEMORY_GROWTH: FLAT},
    ),
    Work(
        "upload",
        "big multipart upload to disk",
        Upload("/api/upload"),
        (THROUGHPUT, SLOW_CPU, MEMORY_BEFORE, MEMORY_GROWTH),
        {"starlette": 1.5},
        {MEMORY_GROWTH: FLAT},
    ),
    Work(
        "rows",
        "10 MB JSON result, 2 clients",
        Bodies(ROWS, connections=2),
        (SLOW_RATE, SLOW_CPU, P99, MEMORY_GROWTH),
        {"flask": 1},
    ),
    Work(
        "rows-fast",
        "the same with the fast extra",
        Bodies(ROWS, connections=2),
        (SLOW_RATE, SLOW_CPU, P99, MEMORY_GROWTH),
        {"flask": 3},
        ours="quick-fast",
    ),
    Work(
        "idle",
        "1,000 idle keep-alive connections",
        IdleConnections(HELLO, 1_000),
        (MEMORY_EACH, MEMORY, P99, THREADS),
        {"uvicorn": 1},
        {MEMORY_EACH: 7, THREADS: POOL},
    ),
    Work(
        "crowd",
        "10,000 idle keep-alive connections",
        IdleConnections(HELLO, 10_000),
        (MEMORY, MEMORY_EACH, P99, THREADS),
        {"uvicorn": None},
        {P99: 5, MEMORY: 100},
    ),
    Work(
        "sleep",
        "nobody asks, 1,000 connections",
        Sleep(HELLO, 1_000),
        (WAKE_UPS, IDLE_CPU),
        {"uvicorn": None},
        {WAKE_UPS: 0},
    ),
    Work(
        "start",
        "process start to first answer, files only",
        FirstAnswer(SMALL_PAGE),
        (START,),
        {"http.server": 1},
        ours="quick-files",
    ),
    Work(
        "jobs",
        "jobs of workers: a result's way to its client, and small jobs",
        Jobs("/api/job"),
        (DELIVERED, POLLED, JOB_RATE, CPU),
        {},
        {DELIVERED: 20},
    ),
    Work(
        "tail",
        "fast handler while 4 threads are in 1 s handlers",
        Tail(HELLO, SLOW),
        (SLOWDOWN, P99, P99_ALONE),
        {},
        {SLOWDOWN: 2},
    ),
    Work(
        "greedy",
        "one polite client beside greedy ones: a pipeline, 4 downloads of 64 MB",
        Polite(HELLO, LARGE_FILE),
        (P99_PIPELINE, P99_DOWNLOADS, P99_ALONE),
        {},
        {P99_PIPELINE: 10, P99_DOWNLOADS: 10},
    ),
    Work(
        "proxy",
        "1 KB through a proxy",
        Proxied(Requests(TINY_FILE)),
        (RATE, CPU, P99, FIRST_BYTE),
        {"nginx-proxy": 0.15, "proxy.py": 2},
        ours="quick-proxy",
    ),
    Work(
        "proxy-big",
        "100 MB through a proxy, 4 clients",
        Proxied(Bodies(HUGE_FILE, connections=4)),
        (THROUGHPUT, SLOW_CPU, FIRST_BYTE, MEMORY_BEFORE, MEMORY_GROWTH),
        {"nginx-proxy": 0.5, "proxy.py": 2},
        {MEMORY_GROWTH: FLAT},
        ours="quick-proxy",
    ),
    Work(
        "proxy-events",
        "1,000 streams of events through a proxy",
        Events(1_000),
        (EVENT_RATE, FIRST_BYTE, MEMORY_EACH, MEMORY, THREADS),
        {"nginx-proxy": None},  # proxy.py does not hold that many streams
        ours="quick-proxy",
    ),
)
