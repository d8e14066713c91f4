"""What a page asks for and gets: data, uploads, streams, events, media."""

from __future__ import annotations

import gzip
import hashlib
import random
import threading
import wave
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, Response, create_server
from quick_server.events import EventChannel
from tests.harness import PATIENCE, Running
from tests.integration.logs import Log

if TYPE_CHECKING:
    from playwright.sync_api import Page

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]

PAGE = (
    '<!doctype html><html lang="en"><title>a page</title><link rel="icon" href="data:,"><body></body>'
)


@pytest.fixture
def server() -> Iterator[QuickServer]:
    """A server with an empty page at `/`."""
    server = create_server(("127.0.0.1", 0))

    @server.text_get("/", 0)
    def index(req: Req, args: ReqArgs) -> Response:
        return Response(PAGE, ctype="text/html; charset=utf-8")

    yield server
    server.server_close()


# ---- fetch ------------------------------------------------------------------------------------


def test_fetch_of_json(server: QuickServer, serve: Serve, page: Page) -> None:
    rows = [{"number": n, "name": f"row {n} ü", "share": n / 7} for n in range(500)]
    asked = []

    @server.json_get("/rows")
    def get_rows(req: Req, args: ReqArgs) -> Any:
        asked.append(req.headers.get("accept-encoding", ""))
        return {"rows": rows, "query": args["query"]}

    page.goto(serve(server).url)
    found = page.evaluate("""async () => {
        const answer = await fetch("/rows?a=1&b=%C3%BC+x");
        const coding = answer.headers.get("content-encoding");
        const length = Number(answer.headers.get("content-length"));
        return { coding, length, data: await answer.json(), ok: answer.ok };
    }""")
    assert found["data"] == {"rows": rows, "query": {"a": "1", "b": "ü x"}}
    assert (found["ok"], found["coding"]) == (True, "gzip")
    assert 0 < found["length"] < len(str(rows)) / 3
    assert "gzip" in asked[0]


def test_a_second_fetch_asks_whether_it_has_changed(
    server: QuickServer, serve: Serve, page: Page, log: Log
) -> None:
    data = ["x" * 2000]

    @server.json_get("/data")
    def get_data(req: Req, args: ReqArgs) -> Any:
        return data

    page.goto(serve(server).url)
    fetch = "fetch('/data').then((answer) => answer.json())"
    assert page.evaluate(fetch) == data
    log.wait_for('"GET /data HTTP/1.1" 200')
    assert page.evaluate(fetch) == data  # the page sees the content again, the wire did not
    log.wait_for('"GET /data HTTP/1.1" 304')
    data[0] = "y" * 2000
    assert page.evaluate(fetch) == data


def test_post_of_json(server: QuickServer, serve: Serve, page: Page) -> None:
    @server.json_post("/sum")
    def add(req: Req, args: ReqArgs) -> Any:
        return {"sum": sum(args["post"]["numbers"]), "name": args["post"]["name"]}

    page.goto(serve(server).url)
    found = page.evaluate("""async () => {
        const body = JSON.stringify({ numbers: [1, 2, 3.5], name: "ü" });
        const headers = { "Content-Type": "application/json" };
        return (await fetch("/sum", { method: "POST", body, headers })).json();
    }""")
    assert found == {"sum": 6.5, "name": "ü"}


def test_upload_of_files(server: QuickServer, serve: Serve, page: Page) -> None:
    @server.json_post("/upload")
    def upload(req: Req, args: ReqArgs) -> Any:
        files = {
            name: [file.filename, file.content_type, hashlib.sha256(file.read()).hexdigest()]
            for name, file in args["files"].items()
        }
        return {"files": files, "post": args["post"]}

    page.goto(serve(server).url)
    found = page.evaluate("""async () => {
        const bytes = new Uint8Array(3_000_000).map((_, n) => (n * 7) % 251);
        const form = new FormData();
        form.append("note", "two\\r\\nlines and ü");
        form.append("big", new File([bytes], 'a "big" ü.bin', { type: "application/x-data" }));
        form.append("empty", new File([], "empty.txt", { type: "text/plain" }));
        return (await fetch("/upload", { method: "POST", body: form })).json();
    }""")
    content = bytes((n * 7) % 251 for n in range(3_000_000))
    assert found == {
        "files": {
            "big": ['a "big" ü.bin', "application/x-data", hashlib.sha256(content).hexdigest()],
            "empty": ["empty.txt", "text/plain", hashlib.sha256(b"").hexdigest()],
        },
        "post": {"note": "two\r\nlines and ü"},
    }


def test_an_upload_that_is_too_large(server: QuickServer, serve: Serve, page: Page) -> None:
    """The page gets the answer, though it was still sending."""
    server.max_file_size = 100_000

    @server.json_post("/upload")
    def upload(req: Req, args: ReqArgs) -> Any:
        return "never"

    page.goto(serve(server).url)
    found = page.evaluate("""async () => {
        const form = new FormData();
        form.append("file", new File([new Uint8Array(8_000_000)], "file"));
        const answer = await fetch("/upload", { method: "POST", body: form });
        return [answer.status, await answer.text()];
    }""")
    assert found[0] == 413
    assert "Uploaded file is too large!" in found[1]


def test_a_stream_arrives_in_pieces(server: QuickServer, serve: Serve, page: Page) -> None:
    """Each piece is sent only after the page has told that it has the one before."""
    has_read = threading.Semaphore(0)

    @server.text_get("/stream")
    def stream(req: Req, args: ReqArgs) -> Iterator[str]:
        for n in range(4):
            yield f"piece {n}"
            assert has_read.acquire(timeout=PATIENCE), "the page did not get it"

    @server.text_post("/read")
    def read(req: Req, args: ReqArgs) -> str:
        has_read.release()
        return "go on"

    page.goto(serve(server).url)
    pieces = page.evaluate("""async () => {
        const reader = (await fetch("/stream")).body.getReader();
        const pieces = [];
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return pieces;
            pieces.push(new TextDecoder().decode(value));
            await fetch("/read", { method: "POST" });
        }
    }""")
    assert pieces == ["piece 0", "piece 1", "piece 2", "piece 3"]


def test_a_stream_that_the_page_ends(server: QuickServer, serve: Serve, page: Page) -> None:
    closed = threading.Event()

    @server.text_get("/stream")
    def stream(req: Req, args: ReqArgs) -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            closed.set()

    page.goto(serve(server).url)
    size = page.evaluate("""async () => {
        const control = new AbortController();
        const answer = await fetch("/stream", { signal: control.signal });
        const { value } = await answer.body.getReader().read();
        control.abort();
        return value.length;
    }""")
    assert size > 0
    assert closed.wait(PATIENCE), "the generator goes on for nobody"


def test_a_stream_that_fails_is_no_complete_answer(
    server: QuickServer, serve: Serve, page: Page, log: Log
) -> None:
    @server.text_get("/stream")
    def stream(req: Req, args: ReqArgs) -> Iterator[str]:
        yield "so far"
        raise RuntimeError("and no further")

    page.goto(serve(server).url)
    found = page.evaluate("""async () => {
        const answer = await fetch("/stream");
        return answer.text().then((text) => text, (error) => error.name);
    }""")
    assert found == "TypeError"
    log.wait_for("and no further")


# ---- events -----------------------------------------------------------------------------------


def test_events_and_their_end(server: QuickServer, serve: Serve, page: Page) -> None:
    """The stream ends behind the third event; the browser comes back and says where it was."""
    names: list[str | None] = []

    @server.event_stream("/events")
    def events(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        names.append(channel.last_event_id)
        first = int(channel.last_event_id or 0) + 1
        for number in range(first, first + 3):
            channel.send({"number": number, "text": "ü\nx"}, id=str(number), retry=10)
        channel.send("a tick", event="tick")
        channel.close()

    page.goto(serve(server).url)
    found = page.evaluate("""() => new Promise((resolve) => {
        const source = new EventSource("/events");
        const seen = { messages: [], ticks: 0, opened: 0, errors: [] };
        source.onopen = () => seen.opened++;
        source.onerror = () => seen.errors.push(source.readyState);
        source.addEventListener("tick", () => seen.ticks++);
        source.onmessage = (event) => {
            seen.messages.push([event.lastEventId, JSON.parse(event.data)]);
            if (seen.messages.length < 8) return;
            source.close();
            resolve(seen);
        };
    })""")
    assert found["messages"] == [[str(n), {"number": n, "text": "ü\nx"}] for n in range(1, 9)]
    assert (found["opened"], found["ticks"]) == (3, 2)
    assert found["errors"] == [0, 0]  # CONNECTING: it comes back by itself
    assert names[:3] == [None, "3", "6"]


def test_events_as_they_happen(server: QuickServer, serve: Serve, page: Page) -> None:
    """Nothing holds an event back: each is sent once the page has told that it has the last."""

    @server.event_stream("/events")
    def events(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        channels.append(channel)
        channel.send(0)

    @server.text_post("/seen")
    def seen(req: Req, args: ReqArgs) -> str:
        channels[0].send(args["post"] + 1)
        return "thanks"

    channels: list[EventChannel] = []
    page.goto(serve(server).url)
    found = page.evaluate("""() => new Promise((resolve) => {
        const source = new EventSource("/events");
        const headers = { "Content-Type": "application/json" };
        const seen = [];
        source.onmessage = (event) => {
            seen.push(JSON.parse(event.data));
            if (seen.length < 20) {
                fetch("/seen", { method: "POST", headers, body: event.data });
            } else {
                source.close();
                resolve(seen);
            }
        };
    })""")
    assert found == list(range(20))


def test_a_page_that_is_closed_is_noticed(server: QuickServer, serve: Serve, page: Page) -> None:
    gone = threading.Event()

    @server.event_stream("/events")
    def events(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        channel.on_close(gone.set)
        channel.send("hello")

    page.goto(serve(server).url)
    page.evaluate("""() => new Promise((resolve) => {
        new EventSource("/events").onmessage = resolve;
    }).then(() => null)""")
    assert not gone.is_set()
    page.close()
    assert gone.wait(PATIENCE), "the channel is still open"


def test_events_are_refused_for_good(server: QuickServer, serve: Serve, page: Page) -> None:
    """HTML standard section 9.2.3: what is no event stream is not asked for again."""

    @server.event_stream("/events")
    def events(req: Req, args: ReqArgs, channel: EventChannel) -> Any:
        return Response("not now", code=503)

    page.goto(serve(server).url)
    state = page.evaluate("""() => new Promise((resolve) => {
        const source = new EventSource("/events");
        source.onerror = () => resolve(source.readyState);
    })""")
    assert state == 2  # CLOSED


# ---- files ------------------------------------------------------------------------------------

RATE, SECONDS = 48_000, 300


def write_sound(path: Path) -> None:
    """Five minutes of nearly nothing in stereo, 57 MB: more than a browser reads ahead."""
    noise = random.Random(1).randbytes(2 * 2 * RATE)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for _ in range(SECONDS):
            file.writeframes(noise)


@pytest.mark.parametrize("element", ["audio", "video"])
def test_seeking(
    server: QuickServer, serve: Serve, page: Page, www: Path, log: Log, element: str
) -> None:
    """A browser that is told to go to the end asks for the bytes there, not for all before."""
    write_sound(www / "sound.wav")
    size = (www / "sound.wav").stat().st_size
    asked: list[tuple[int, str | None]] = []

    def note(req: Req, path: str, cookie: object) -> None:
        if path == "/sound.wav":
            first = req.headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")[0]
            asked.append((int(first), req.headers.get("if-range")))

    server.add_pre_middleware(note)
    server.bind_path("/", str(www))
    run = serve(server)
    page.goto(run.url)
    found = page.evaluate(
        """async (element) => {
            const media = document.createElement(element);
            const next = (name) => new Promise((resolve, reject) => {
                media.addEventListener(name, resolve, { once: true });
                media.addEventListener("error", () => reject(media.error.message), { once: true });
            });
            media.preload = "metadata";
            media.src = "/sound.wav";
            document.body.append(media);
            await next("loadedmetadata");
            const places = [];
            for (const place of [media.duration - 2, 30, media.duration / 2]) {
                media.currentTime = place;
                await next("seeked");
                places.push(media.currentTime);
            }
            const seekable = [media.seekable.start(0), media.seekable.end(0)];
            return { duration: media.duration, places, seekable };
        }""",
        element,
    )
    assert found["duration"] == pytest.approx(SECONDS)
    assert found["seekable"] == pytest.approx([0, SECONDS])
    assert found["places"] == pytest.approx([SECONDS - 2, 30, SECONDS / 2])
    assert max(first for first, _ in asked) > 0.9 * size
    log.wait_for(r'"GET /sound.wav HTTP/1.1" 206')
    assert '"GET /sound.wav HTTP/1.1" 200' not in log.text


def test_a_page_of_files(serve: Serve, page: Page, www: Path, log: Log) -> None:
    """Modules, styles and pictures have the types that a browser insists on."""
    (www / "index.html").write_text(
        '<!doctype html><html lang="en"><title>files</title><link rel="icon" href="data:,">'
        '<link rel="stylesheet" href="style.css"><p>text</p><img src="dot.svg" alt="">'
        '<script type="module" src="main.mjs"></script>'
    )
    (www / "style.css").write_text("p { color: rgb(1, 2, 3) }")
    (www / "main.mjs").write_text('import { word } from "./word.js"; window.said = word;')
    (www / "word.js").write_text('export const word = "grüße";')
    (www / "dot.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="7" height="9"><rect width="3" height="3"/>'
        "</svg>"
    )
    server = create_server(("127.0.0.1", 0))
    server.bind_path("/", str(www))
    server.add_default_white_list()
    run = serve(server)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(run.url)
    page.wait_for_function("window.said")
    assert page.evaluate("window.said") == "grüße"
    assert page.evaluate("getComputedStyle(document.querySelector('p')).color") == "rgb(1, 2, 3)"
    assert page.evaluate("document.images[0].naturalHeight") == 9
    page.reload()
    page.wait_for_function("window.said")
    log.wait_for('"GET /word.js HTTP/1.1" 304')
    assert problems == []


def test_a_compressed_file_beside_its_original(
    server: QuickServer, serve: Serve, page: Page, www: Path
) -> None:
    (www / "data.json").write_text('["the original"]')
    (www / "data.json.gz").write_bytes(gzip.compress(b'["the compressed one"]'))
    server.bind_path("/", str(www))
    page.goto(serve(server).url)
    assert page.evaluate("fetch('/data.json').then((answer) => answer.json())") == [
        "the compressed one"
    ]


def test_a_download(server: QuickServer, serve: Serve, page: Page, tmp_path: Path) -> None:
    content = random.Random(3).randbytes(5_000_000)

    @server.text_get("/file")
    def file(req: Req, args: ReqArgs) -> Any:
        req.send_header("Content-Disposition", 'attachment; filename="data.bin"')
        return Response(content, ctype="application/octet-stream")

    page.goto(serve(server).url)
    with page.expect_download() as download:
        page.evaluate("() => { location.href = '/file'; }")
    assert download.value.suggested_filename == "data.bin"
    download.value.save_as(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == content


def test_many_fetches_at_once(server: QuickServer, serve: Serve, page: Page) -> None:
    """A browser uses six connections at most, again and again."""

    @server.json_get("/square/:number")
    def square(req: Req, args: ReqArgs) -> Any:
        return int(args["segments"]["number"]) ** 2

    page.goto(serve(server).url)
    found = page.evaluate("""() => Promise.all(
        Array.from({ length: 200 }, (_, n) => fetch(`/square/${n}`).then((answer) => answer.json()))
    )""")
    assert found == [n * n for n in range(200)]


def test_cookies(server: QuickServer, serve: Serve, page: Page) -> None:
    @server.json_get("/visits")
    def visits(req: Req, args: ReqArgs) -> Any:
        number = int(args["cookie"]["visits"].value) + 1 if args["cookie"] else 1
        cookie = SimpleCookie({"visits": str(number)})
        cookie["visits"]["httponly"] = True
        req.send_cookie(cookie)
        return number

    page.goto(serve(server).url)
    fetch = "fetch('/visits').then((answer) => answer.json())"
    assert [page.evaluate(fetch) for _ in range(3)] == [1, 2, 3]
    assert page.evaluate("document.cookie") == ""
