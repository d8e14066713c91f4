"""Jobs of a page: `worker.js` in a real browser, against a real server."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
    progress,
)
from tests.browser.conftest import ARGUMENTS
from tests.harness import PATIENCE, Running, running
from tests.integration.logs import Log

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Route

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]

HEAD = '<!doctype html><html lang="en"><title>a page</title><link rel="icon" href="data:,">'
CLASSIC = HEAD + '<script src="js/worker.js" charset="utf-8"></script><body></body>'
MODULE = (
    HEAD + '<body></body><script type="module">'
    'import * as module from "./js/worker.mjs"; window.module = module;</script>'
)
# What the page asks is noted, and how many questions that wait are on their way.
SPY = """
window.asked = [];
window.waiting = { now: 0, most: 0 };
const send = window.fetch;
window.fetch = async (url, options) => {
    const question = JSON.parse((options || {}).body || "{}");
    const waits = question.action === "get" && question.wait > 0;
    asked.push(question);
    waiting.now += waits;
    waiting.most = Math.max(waiting.most, waiting.now);
    try {
        return await send(url, options);
    } finally {
        waiting.now -= waits;
    }
};
"""
# The jobs of one Worker, and what becomes of them.
WORK = """
window.work = new quick_server.Worker();
window.results = {};
window.errors = {};
window.post = (name, payload, url) => work.post(name, url || "hold", { name, ...payload },
    (data) => { results[name] = data; }, (error) => { errors[name] = [error.status, error.message]; });
null; // and not a function, which would be called
"""


class Held:
    """Jobs that go on until they are released or stopped, each under a name.

    They take the plain lock: `Condition.__enter__` is Python, and a job that is stopped in its midst
    would keep the lock for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._events: set[tuple[str, str]] = set()

    def _note(self, name: str, event: str) -> None:
        with self._lock:
            self._events.add((name, event))
            self._changed.notify_all()

    def has(self, name: str, event: str) -> bool:
        with self._lock:
            return (name, event) in self._events

    def wait_for(self, name: str, event: str) -> None:
        """`event` is `begun`, `stopped` or `done`."""
        with self._changed:
            happened = self._changed.wait_for(lambda: (name, event) in self._events, PATIENCE)
            assert happened, f"{name} is not {event}: {sorted(self._events)}"

    def release(self, *names: str) -> None:
        for name in names:
            self._note(name, "released")

    def job(self, post: dict[str, Any]) -> Any:
        name = post["name"]
        self._note(name, "begun")
        try:
            while not self.has(name, "released"):
                time.sleep(0.001)  # a moment in which it can be stopped
        except BaseException:
            self._note(name, "stopped")
            raise
        self._note(name, "done")
        return post


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def server(held: Held) -> Iterator[QuickServer]:
    """A server with pages at `/` and `/module`, and the held jobs."""
    server = set_up(create_server(("127.0.0.1", 0)), held)
    yield server
    server.server_close()


def set_up(server: QuickServer, held: Held) -> QuickServer:
    server.link_worker_js("/js/worker.js")
    server.json_worker("/hold")(held.job)

    @server.text_get("/", 0)
    def classic(req: Req, args: ReqArgs) -> Response:
        return Response(CLASSIC, ctype="text/html; charset=utf-8")

    @server.text_get("/module", 0)
    def module(req: Req, args: ReqArgs) -> Response:
        return Response(MODULE, ctype="text/html; charset=utf-8")

    @server.text_get("/ping", 0)
    def ping(req: Req, args: ReqArgs) -> str:
        return "pong"

    return server


@pytest.fixture
def open_page(
    server: QuickServer, serve: Serve, context: BrowserContext
) -> Iterator[Callable[[], Page]]:
    """`open_page()` is a new tab with the page, and a Worker in it; it must not have errors."""
    run = serve(server)
    problems: list[str] = []

    def new() -> Page:
        page = context.new_page()
        page.add_init_script(SPY)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(run.url)
        page.evaluate(WORK)
        return page

    yield new
    assert problems == []


@pytest.fixture
def tab(open_page: Callable[[], Page]) -> Page:
    return open_page()


def begin(tab: Page, held: Held, *names: str) -> None:
    """Starts jobs that are held; returns when they run and the page has their tokens."""
    tokens = "new Set(asked.filter(({ action }) => action === 'get').map(({ token }) => token)).size"
    known = tab.evaluate(tokens)
    tab.evaluate("(names) => names.forEach((name) => post(name))", names)
    tab.wait_for_function(f"(number) => {tokens} === number", arg=known + len(names))
    for name in names:
        held.wait_for(name, "begun")


# ---- results ----------------------------------------------------------------------------------


def test_a_classic_script(server: QuickServer, tab: Page) -> None:
    @server.json_worker("/user/:name")
    def user(post: dict[str, Any]) -> Any:
        return {
            "post": post,
            "not a number": float("nan"),
            "text": "grüße\u2028\U0001f600",
            "nothing": None,
        }

    found = tab.evaluate("""() => new Promise((resolve, reject) => {
        work.post("a", "user/ada", { rows: [1, 2.5], name: "replaced" }, resolve, reject);
    })""")
    assert found == {
        "post": {"rows": [1, 2.5], "name": "ada"},
        "not a number": "NaN",
        "text": "grüße\u2028\U0001f600",
        "nothing": None,
    }


def test_a_result_that_is_nothing(server: QuickServer, tab: Page) -> None:
    """The JSON text `null` is a result; no result at all is an error."""

    @server.json_worker("/nothing")
    def nothing(post: dict[str, Any]) -> Any:
        return None

    assert tab.evaluate("work.run('a', 'nothing').then((data) => [data, work.active])") == [None, 0]


def test_the_namespace_may_be_there_before(server: QuickServer, serve: Serve, page: Page) -> None:
    page.add_init_script("window.quick_server = { own: 1 };")
    page.goto(serve(server).url)
    assert page.evaluate("Object.keys(quick_server).sort()") == ["Worker", "WorkerError", "own"]


def test_a_module_by_another_name(server: QuickServer, serve: Serve, page: Page, held: Held) -> None:
    """The twin finds the script by its own address."""
    held.release("a")
    server.link_worker_js("/some/where/jobs.js")
    page.goto(serve(server).url)
    data = page.evaluate("""async () => {
        const { Worker } = await import("/some/where/jobs.mjs?v=1.mjs");
        return await new Worker().run("a", "hold", { name: "a" });
    }""")
    assert data == {"name": "a"}


def test_a_module(server: QuickServer, serve: Serve, page: Page, held: Held) -> None:
    """The twin exports what the script sets, and both on one page are one."""
    held.release("a")
    page.goto(serve(server).url + "/module")
    page.wait_for_function("window.module")
    found = page.evaluate("""async () => {
        const work = new module.Worker();
        const data = await work.run("a", "hold", { name: "a" });
        const before = window.quick_server.Worker;
        await import("/js/worker.js");
        const error = await work.run("b", "nowhere").catch((error) => error);
        return {
            data,
            names: Object.keys(module).sort(),
            same: before === module.Worker && window.quick_server.Worker === module.Worker,
            error: error instanceof module.WorkerError && error instanceof Error && error.status,
        };
    }""")
    assert found == {
        "data": {"name": "a"},
        "names": ["Worker", "WorkerError"],
        "same": True,
        "error": 404,
    }


def test_how_late_a_result_is(server: QuickServer, tab: Page, record_property: Any) -> None:
    """A job that ends while the page waits for it, both with the clock of one machine."""

    @server.json_worker("/three-seconds")
    def three_seconds(post: dict[str, Any]) -> float:
        time.sleep(3)
        return time.time() * 1000

    late = tab.evaluate("work.run('a', 'three-seconds').then((end) => Date.now() - end)")
    record_property("late_ms", late)
    print(f"the result of a job of 3 s came {late:.1f} ms after its end")
    assert late < 1000
    assert tab.evaluate("asked.filter((question) => question.action === 'get').length") < 5


def test_twenty_jobs_at_once(tab: Page, held: Held) -> None:
    """Never more than three questions wait, the page gets other things meanwhile, and all end."""
    names = [f"job {n}" for n in range(20)]
    begin(tab, held, *names)
    took = tab.evaluate("""async () => {
        const before = performance.now();
        await Promise.all(Array.from({ length: 6 }, () => fetch("ping")));
        return performance.now() - before;
    }""")
    print(f"six other requests took {took:.1f} ms")
    assert took < 2000
    held.release(*names)
    tab.wait_for_function("Object.keys(results).length === 20")
    assert tab.evaluate("[work.active, waiting.most, Object.keys(errors)]") == [0, 3, []]
    assert tab.evaluate("results") == {name: {"name": name} for name in names}


def test_a_job_beside_three_that_wait_for_long(tab: Page, held: Held) -> None:
    """It gets no line, and its result comes nevertheless long before the others give theirs back."""
    begin(tab, held, "a", "b", "c")
    tab.wait_for_function("waiting.now === 3")
    began = time.monotonic()
    begin(tab, held, "d")
    held.release("d")
    tab.wait_for_function("results.d")
    assert time.monotonic() - began < PATIENCE
    assert tab.evaluate("waiting") == {"now": 3, "most": 3}
    held.release("a", "b", "c")
    tab.wait_for_function("work.active === 0")


def test_many_tabs(open_page: Callable[[], Page], held: Held) -> None:
    """Together they have as many connections as one; each would wait for 30 s."""
    tabs = [open_page() for _ in range(8)]
    for number, tab in enumerate(tabs):
        begin(tab, held, f"job {number}")
    answers = [tab.evaluate("fetch('ping').then((answer) => answer.text())") for tab in tabs]
    assert answers == ["pong"] * 8
    assert sum(tab.evaluate("waiting.now") for tab in tabs) <= 3
    held.release(*(f"job {number}" for number in range(8)))
    for number, tab in enumerate(tabs):
        tab.wait_for_function("(name) => results[name]", arg=f"job {number}")


NO_LOCKS = "Object.defineProperty(navigator, 'locks', { value: undefined });"
REFUSED = "navigator.locks.request = () => Promise.reject(new DOMException('no', 'SecurityError'));"
HIDDEN = "Object.defineProperty(document, 'hidden', { value: true });"


@pytest.mark.parametrize(
    ("script", "wait"), [(NO_LOCKS, 5000), (NO_LOCKS + HIDDEN, 0), (REFUSED, 30000)]
)
def test_without_locks(
    server: QuickServer, serve: Serve, page: Page, held: Held, script: str, wait: int
) -> None:
    """In pages over plain http from elsewhere, and in those that may not have them."""
    page.add_init_script(SPY + script)
    page.goto(serve(server).url)
    page.evaluate(WORK)
    begin(page, held, "a")
    assert page.evaluate("asked[1].wait") == wait
    held.release("a")
    page.wait_for_function("results.a")


def test_a_result_in_pieces(server: QuickServer, tab: Page) -> None:
    text, times = "0123456789 ü \U0001f600", 2_200_000

    @server.json_worker("/long")
    def long(post: dict[str, Any]) -> Any:
        return {"text": text * times}

    found = tab.evaluate(
        """async ([text, times]) => {
            const data = await work.run("a", "long");
            return [data.text === text.repeat(times), data.text.length];
        }""",
        [text, times],
    )
    assert found == [True, (len(text) + 1) * times]  # JavaScript counts the last one twice
    cargo = tab.evaluate("asked.filter((question) => question.action === 'cargo').length")
    assert cargo == 1 + len(text) * times // server.max_chunk_size


# ---- progress ---------------------------------------------------------------------------------


def test_progress(server: QuickServer, tab: Page) -> None:
    """Each step waits until the page has seen the one before."""
    steps = threading.Semaphore(0)

    @server.json_worker("/steps")
    def walk(post: dict[str, Any]) -> str:
        progress(0, text="looking")
        for step in range(1, 4):
            assert steps.acquire(timeout=PATIENCE)
            progress(step, 4, f"step {step}")
        assert steps.acquire(timeout=PATIENCE)
        return "there"

    tab.evaluate("""() => {
        window.seen = [];
        work.run("a", "steps", {}, { onProgress: (progress) => seen.push(progress) })
            .then((data) => { results.a = data; });
    }""")
    for step in range(4):
        tab.wait_for_function("(step) => seen.some(({ done }) => done === step)", arg=step)
        steps.release()
    tab.wait_for_function("results.a === 'there'")
    seen = tab.evaluate("seen")
    assert [p for p in seen if p["text"]] == [
        {"done": 0, "total": None, "text": "looking", "queue": None},
        *({"done": n, "total": 4, "text": f"step {n}", "queue": None} for n in (1, 2, 3)),
    ]


def test_the_place_in_line(server: QuickServer, tab: Page, held: Held) -> None:
    server.max_workers = 1
    begin(tab, held, "a")
    tab.evaluate("""() => {
        window.seen = { b: [], c: [] };
        for (const name of ["b", "c"]) {
            const onProgress = ({ queue }) => seen[name].push(queue);
            work.run(name, "hold", { name }, { onProgress }).then((data) => { results[name] = data; });
        }
    }""")
    tab.wait_for_function("seen.c.includes(1)")
    held.release("a")
    held.wait_for("b", "begun")
    tab.wait_for_function("seen.c.includes(0)")
    held.release("b", "c")
    tab.wait_for_function("results.b && results.c")
    assert tab.evaluate("seen.b[0]") == 0


def test_faults_of_the_page_end_no_job(
    server: QuickServer, serve: Serve, page: Page, held: Held
) -> None:
    """They are reported as what they are."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.add_init_script(SPY)
    page.goto(serve(server).url)
    page.evaluate(WORK)
    page.evaluate("""() => {
        work.status = () => { throw new Error("status is broken"); };
        const onProgress = () => { throw new Error("progress is broken"); };
        work.run("a", "hold", { name: "a" }, { onProgress }).then((data) => { results.a = data; });
    }""")
    held.wait_for("a", "begun")
    page.wait_for_function("asked.length > 1")
    held.release("a")
    page.wait_for_function("results.a")
    page.wait_for_function("work.active === 0")
    assert set(problems) == {"status is broken", "progress is broken"}


# ---- stopping ---------------------------------------------------------------------------------


def test_cancelling(tab: Page, held: Held) -> None:
    begin(tab, held, "a")
    tab.evaluate("work.cancel('nobody')")
    assert tab.evaluate("() => { work.cancel('a'); return work.active; }") == 0
    held.wait_for("a", "stopped")
    assert tab.evaluate("[results, errors]") == [{}, {}]


def test_cancelling_before_the_server_has_answered(tab: Page, held: Held) -> None:
    """Without an answer there is no token yet; the job is stopped as soon as there is."""
    tab.evaluate("() => { post('a'); work.cancel('a'); }")
    held.wait_for("a", "stopped")


def test_a_signal(tab: Page, held: Held) -> None:
    begin(tab, held, "other")
    tab.evaluate("""() => {
        window.control = new AbortController();
        window.ends = {};
        const run = (name, signal) => work.run(name, "hold", { name }, { signal })
            .catch((error) => { ends[name] = [error instanceof DOMException, error.name]; });
        run("a", control.signal);
        run("late", AbortSignal.abort());
        run("reason", AbortSignal.abort(new RangeError("own")));
    }""")
    held.wait_for("a", "begun")
    tab.evaluate("control.abort()")
    held.wait_for("a", "stopped")
    assert tab.evaluate("ends") == {
        "a": [True, "AbortError"],
        "late": [True, "AbortError"],
        "reason": [False, "RangeError"],
    }
    assert tab.evaluate("work.active") == 1
    assert tab.evaluate("asked.filter(({ action }) => action === 'start').length") == 2
    held.release("other")
    tab.wait_for_function("results.other")


def test_a_later_job_of_the_same_name(tab: Page, held: Held) -> None:
    tab.evaluate("""() => {
        window.counts = [];
        work.status = (number) => counts.push(number);
        work.run("same", "hold", { name: "first" }).catch((error) => { errors.first = error.name; });
    }""")
    held.wait_for("first", "begun")
    tab.evaluate("work.post('same', 'hold', { name: 'second' }, (data) => { results.same = data; })")
    held.wait_for("first", "stopped")
    held.wait_for("second", "begun")
    held.release("second")
    tab.wait_for_function("results.same")
    assert tab.evaluate("[results, errors]") == [{"same": {"name": "second"}}, {"first": "AbortError"}]
    assert tab.evaluate("counts") == [1, 1, 0]


@pytest.mark.parametrize("leave", ["reload", "goto", "close"])
def test_leaving_the_page(tab: Page, held: Held, leave: str) -> None:
    """All are stopped, also more than a browser sends at once on behalf of a page that is gone."""
    names = [f"job {n}" for n in range(30)]
    begin(tab, held, *names)
    if leave == "goto":
        tab.goto("about:blank")
    else:
        getattr(tab, leave)()
    for name in names:
        held.wait_for(name, "stopped")


def test_leaving_where_fetch_does_not_outlive_the_page(
    server: QuickServer, serve: Serve, page: Page, held: Held
) -> None:
    page.add_init_script(SPY + "delete Request.prototype.keepalive;")
    page.goto(serve(server).url)
    page.evaluate(WORK)
    begin(page, held, "a", "b")
    page.goto("about:blank")
    held.wait_for("a", "stopped")
    held.wait_for("b", "stopped")


def test_coming_back_to_a_page(server: QuickServer, serve: Serve, browser: Browser, held: Held) -> None:
    """A page that was kept as it was finds its jobs failed, and works as before."""
    url = serve(server).url
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    arguments = [*ARGUMENTS, "--no-sandbox"]
    keeping = browser.browser_type.launch(
        executable_path=path, args=arguments, ignore_default_args=["--disable-back-forward-cache"]
    )
    try:
        tab = keeping.new_page()
        tab.add_init_script(SPY)
        tab.goto(url)
        tab.evaluate(WORK)
        tab.evaluate("() => { window.counts = []; work.status = (number) => counts.push(number); }")
        tab.evaluate("work.infoTitle = true")
        begin(tab, held, "a")
        tab.goto(url + "/module")
        held.wait_for("a", "stopped")
        tab.evaluate("history.back()")
        tab.wait_for_function("window.errors && errors.a")
        assert tab.evaluate("errors.a") == [0, "the page was left while the job ran"]
        assert tab.evaluate("[counts, work.active, document.title]") == [[1, -1], 0, "a page"]
        begin(tab, held, "b")
        held.release("b")
        tab.wait_for_function("results.b")
    finally:
        keeping.close()


# ---- trouble ----------------------------------------------------------------------------------


def test_a_job_that_fails(server: QuickServer, tab: Page, log: Log) -> None:
    @server.json_worker("/fails")
    def fails(post: dict[str, Any]) -> Any:
        raise RuntimeError("a secret")

    @server.json_worker("/refuses")
    def refuses(post: dict[str, Any]) -> Any:
        raise PreventDefaultResponse(422, "no rows")

    @server.json_worker("/unavailable")
    def unavailable(post: dict[str, Any]) -> Any:
        raise PreventDefaultResponse(503, "no rows today")

    tab.evaluate("""() => {
        window.counts = [];
        work.status((number) => counts.push(number));
        post("fails", {}, "fails");
    }""")
    tab.wait_for_function("errors.fails")
    tab.evaluate("post('refuses', {}, 'refuses')")
    tab.wait_for_function("errors.refuses")
    status, message = tab.evaluate("errors.fails")
    assert (status, "a secret" in message) == (500, False)
    assert tab.evaluate("errors.refuses") == [422, "no rows"]
    tab.evaluate("post('unavailable', {}, 'unavailable')")
    tab.wait_for_function("errors.unavailable")
    assert tab.evaluate("errors.unavailable") == [503, "no rows today"]
    assert tab.evaluate("[counts, results]") == [[1, -1, 1, -1, 1, -1], {}]
    assert tab.evaluate("asked.length") == 3  # no job was asked for twice
    log.wait_for("a secret")


def test_what_is_no_worker(tab: Page) -> None:
    found = tab.evaluate("""async () => {
        const circle = {};
        circle.self = circle;
        const runs = [["nowhere"], ["js/worker.js"], ["http://"], ["hold", circle]];
        const why = ({ name, status }) => [name, status];
        const ends = runs.map((each, n) => work.run(n, ...each).catch(why));
        return [await Promise.all(ends), work.active];
    }""")
    assert found == [
        [["WorkerError", 404], ["WorkerError", 405], ["TypeError", None], ["TypeError", None]],
        0,
    ]


def test_a_network_that_fails_now_and_then(tab: Page, held: Held) -> None:
    """The first of each kind of question is lost, the second meets a gateway in trouble."""
    counts: dict[str, int] = {}

    def meet(route: Route) -> None:
        action = json.loads(route.request.post_data or "")["action"]
        counts[action] = counts.get(action, 0) + 1
        if counts[action] == 1:
            route.abort("connectionreset")
        elif counts[action] == 2:
            route.fulfill(status=503, headers={"Retry-After": "0"}, body="<h1>wait</h1>")
        else:
            route.continue_()

    tab.route("**/hold", meet)
    begin(tab, held, "a")
    held.release("a")
    tab.wait_for_function("results.a")
    assert counts["start"] == 3
    assert counts["get"] >= 3
    assert tab.evaluate("errors") == {}


def test_a_gateway_that_says_when(tab: Page) -> None:
    begun: list[float] = []

    def meet(route: Route) -> None:
        begun.append(time.monotonic())
        if len(begun) == 1:
            route.fulfill(status=503, headers={"Retry-After": "1"})
        else:
            route.fulfill(json={"token": "1", "done": True, "result": "7", "continue": False})

    tab.route("**/busy", meet)
    assert tab.evaluate("work.run('a', 'busy')") == 7
    assert begun[1] - begun[0] > 0.95


def test_a_server_that_has_restarted(context: BrowserContext, held: Held, log: Log) -> None:
    """It knows nothing of the job; the page hears of that, and not nothing for ever."""
    server = set_up(create_server(("127.0.0.1", 0)), held)
    with running(server) as run:
        tab = context.new_page()
        tab.add_init_script(SPY)
        tab.goto(run.url)
        tab.evaluate(WORK)
        begin(tab, held, "a")
        address = run.address
    held.wait_for("a", "stopped")
    with running(set_up(create_server(address), held)):
        tab.wait_for_function("errors.a")
        status, message = tab.evaluate("errors.a")
        assert (status, "does not know the job" in message) == (0, True)
        begin(tab, held, "b")
        held.release("b")
        tab.wait_for_function("results.b")
        tab.close()


def test_a_server_that_is_gone(context: BrowserContext, held: Held, log: Log) -> None:
    """It is asked for a while before that counts. The page's clock is ours, so nobody waits."""
    with running(set_up(create_server(("127.0.0.1", 0)), held)) as run:
        tab = context.new_page()
        tab.clock.install()
        tab.add_init_script(SPY)
        tab.goto(run.url)
        tab.evaluate(WORK)
        tab.evaluate("post('a')")
        held.wait_for("a", "begun")
        tab.wait_for_function("asked.length > 1")
    deadline = time.monotonic() + 3 * PATIENCE
    while not (error := tab.evaluate("errors.a")):
        assert time.monotonic() < deadline, "no error"
        tab.clock.run_for(1000)
    assert error[0] == 0
    assert "cannot be reached" in error[1]
    assert tab.evaluate("asked.length") > 6
    tab.close()


def test_an_answer_that_never_comes(server: QuickServer, serve: Serve, page: Page) -> None:
    """A minute after its time the connection counts as dead. The page's clock is ours."""
    asked: list[str] = []
    over = threading.Event()

    @server.json_post("/mute", 0)
    def mute(req: Req, args: ReqArgs) -> Any:
        asked.append(args["post"]["action"])
        if len(asked) == 1:
            return {"token": "1", "done": False, "result": None, "continue": True, "progress": {}}
        if len(asked) == 2:
            over.wait(3 * PATIENCE)
        return {"token": "1", "done": True, "result": "7", "continue": False}

    def pass_time(until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < deadline, asked
            page.clock.run_for(100)

    page.clock.install()
    page.goto(serve(server).url)
    page.evaluate("() => { window.result = null; window.work = new quick_server.Worker(); }")
    try:
        page.evaluate("() => { work.run('a', 'mute').then((data) => { result = data; }); }")
        pass_time(lambda: len(asked) == 2)
        page.clock.run_for(85_000)
        assert asked == ["start", "get"]
        page.clock.run_for(6_000)
        pass_time(lambda: page.evaluate("result") == 7)
    finally:
        over.set()
    assert asked == ["start", "get", "get"]


def test_a_job_that_somebody_else_stops(tab: Page, held: Held) -> None:
    begin(tab, held, "a")
    tab.evaluate("""async () => {
        const { token } = asked.find(({ action }) => action === "get");
        await fetch("hold", { method: "POST", body: JSON.stringify({ action: "stop", token }) });
    }""")
    tab.wait_for_function("errors.a")
    assert tab.evaluate("errors.a") == [0, "the job was stopped"]


def test_an_address_that_changes_meanwhile(tab: Page, held: Held) -> None:
    begin(tab, held, "a")
    tab.evaluate("history.pushState(null, '', '/deep/below/')")
    held.release("a")
    tab.wait_for_function("results.a")


def test_a_server_that_does_not_wait(server: QuickServer, tab: Page) -> None:
    """One of the older protocol answers at once; then it is asked ever more slowly."""
    times: list[float] = []

    @server.json_post("/old", 0)
    def old(req: Req, args: ReqArgs) -> Any:
        times.append(time.monotonic())
        done = len(times) == 5
        result = '"at last"' if done else None
        return {"token": 7, "done": done, "result": result, "continue": not done}

    assert tab.evaluate("work.run('a', 'old')") == "at last"
    gaps = [after - before for before, after in pairwise(times)]
    assert all(gap > pace - 0.01 for gap, pace in zip(gaps, (0.5, 0.51, 0.52, 0.53), strict=True))
    assert sum(gaps) < PATIENCE
    tokens = tab.evaluate("asked.slice(1).map(({ action, token }) => [action, token])")
    assert tokens == [["get", 7]] * 4


# ---- what the page shows ----------------------------------------------------------------------


def test_the_status(tab: Page, held: Held) -> None:
    tab.evaluate("""() => {
        window.counts = [];
        work.status((number) => counts.push([number, work.active]));
    }""")
    begin(tab, held, "a")
    begin(tab, held, "b")
    held.release("a")
    tab.wait_for_function("results.a")
    tab.evaluate("() => { work.status = (number) => counts.push(`now ${number}`); }")
    held.release("b")
    tab.wait_for_function("results.b")
    assert tab.evaluate("counts") == [[1, 1], [2, 2], [1, 1], "now 0"]


def test_the_title(tab: Page, held: Held) -> None:
    """It is the page's, which may change it while the spinner turns."""
    assert tab.evaluate("work.infoTitle") is False
    tab.evaluate("work.infoTitle = true")
    begin(tab, held, "a")
    tab.wait_for_function("/^[◐◓◑◒] a page$/.test(document.title)")
    tab.evaluate("document.title = 'another'")
    tab.wait_for_function("/^[◐◓◑◒] another$/.test(document.title)")
    held.release("a")
    tab.wait_for_function("results.a")
    assert tab.title() == "another"
    begin(tab, held, "b")
    tab.wait_for_function("document.title !== 'another'")
    tab.evaluate("() => { document.title = 'the last'; work.cancel('b'); }")
    assert tab.title() == "the last"


def test_the_progress_element(server: QuickServer, tab: Page, held: Held) -> None:
    server.max_workers = 1
    told = threading.Event()

    @server.json_worker("/half")
    def half(post: dict[str, Any]) -> Any:
        progress(42, 84, "reading")
        told.set()
        return held.job(post)

    tab.evaluate("""() => {
        document.body.innerHTML = '<quick-progress for="a" label="Sums"></quick-progress>';
        window.other = new quick_server.Worker();
        window.problems = [];
    }""")
    element, bar = tab.locator("quick-progress"), tab.get_by_role("progressbar")
    assert element.is_hidden()
    begin(tab, held, "first")
    begin_in_line = "work.post('a', 'half', { name: 'a' }, (data) => { results.a = data; })"
    tab.evaluate(begin_in_line)
    element.get_by_text("next in line").wait_for()
    assert bar.get_attribute("value") is None
    held.release("first")
    element.get_by_text("reading").wait_for()
    assert told.is_set()
    assert element.get_by_text("50%").is_visible()
    assert bar.evaluate("(bar) => bar.value / bar.max") == 0.5
    assert tab.get_by_role("progressbar", name="reading").is_visible()
    tab.evaluate("document.querySelector('quick-progress').worker = other")
    assert element.is_hidden()
    tab.evaluate("document.querySelector('quick-progress').worker = work")
    assert element.is_visible()
    element.get_by_role("button", name="Cancel").click()
    held.wait_for("a", "stopped")
    assert element.is_hidden()
    assert tab.evaluate("[work.active, results.a]") == [0, None]


def test_the_progress_element_under_a_strict_policy(
    server: QuickServer, serve: Serve, page: Page, held: Held
) -> None:
    """It needs no permission for styles, and none for scripts beside the file's own."""
    problems: list[str] = []

    @server.text_get("/strict", 0)
    def strict(req: Req, args: ReqArgs) -> Response:
        req.send_header("Content-Security-Policy", "default-src 'self'; img-src data:")
        content = CLASSIC.replace("<body>", '<body><quick-progress for="a"></quick-progress>')
        return Response(content, ctype="text/html; charset=utf-8")

    page.on("console", lambda message: problems.append(message.text))
    page.goto(serve(server).url + "/strict")
    page.evaluate("() => { window.work = new quick_server.Worker(); }")
    page.evaluate("() => { work.post('a', 'hold', { name: 'a' }); }")
    page.get_by_role("progressbar", name="Working").wait_for()
    element = page.locator("quick-progress")
    assert element.evaluate("(element) => getComputedStyle(element).display") == "flex"
    held.release("a")
    element.wait_for(state="hidden")
    assert problems == []
