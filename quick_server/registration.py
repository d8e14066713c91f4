"""The decorators and methods with which callers register their functions.

Called before the server runs, or while it does: looking up and adding routes are both short, and a
route is complete before it can be found.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from .cache import CacheIdObj, CachePlan, ResultCache, check_section
from .commands import CmdCompleteF, CmdF, Commands
from .events import EventChannel
from .handlers import CachedHandler, Handler, Kind, ReqF
from .jobrequests import WorkerHandler
from .middleware import MiddlewareF, MiddlewareStack, PreMiddlewareF, unwrap, wrap
from .request import QuickServerRequestHandler, ReqArgs
from .routes import Routes
from .workers import BaseWorker, WorkerArgs, WorkerF

if TYPE_CHECKING:
    from concurrent.futures import Executor

F = TypeVar("F", bound=ReqF)
AnyF = TypeVar("AnyF", bound=Callable[..., Any])
CommandF = TypeVar("CommandF", bound=CmdF)
WorkerFunction = TypeVar("WorkerFunction", bound=WorkerF)
EventFunction: TypeAlias = Callable[[QuickServerRequestHandler, ReqArgs, EventChannel], Any]
CacheIdF: TypeAlias = Callable[[ReqArgs], CacheIdObj | None]
EventF = TypeVar("EventF", bound=EventFunction)


_NO_PLAN = CachePlan()


class Registration:
    """Masks to functions. A decorator gives the function back unchanged.

    A mask is a path like `/data` or `/user/:name`; it matches every path that starts with it, whole
    segments only. `argc` is the number of segments that may follow: None for any number; a path with
    another number is not matched. The longest mask that matches wins.

    With `cache_id` the results of a function are kept in `server.cache`: `cache_id(args)` names what
    makes two of them the same, as a dict (None: do not keep this one), and `cache_section` the folder.
    """

    _results: ResultCache

    def __init__(self) -> None:
        self.commands = Commands()
        self.routes: Routes[Handler] = Routes()
        self._stack = MiddlewareStack()
        self.pre_middleware: tuple[PreMiddlewareF, ...] = ()

    def json_get(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for GET (and HEAD) whose result is sent as JSON."""
        return self._decorator("json", "GET", mask, argc, CachePlan(cache_id, section=cache_section))

    def json_put(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for PUT whose result is sent as JSON."""
        return self._decorator("json", "PUT", mask, argc, CachePlan(cache_id, section=cache_section))

    def json_delete(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for DELETE whose result is sent as JSON."""
        return self._decorator("json", "DELETE", mask, argc, CachePlan(cache_id, section=cache_section))

    def json_post(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for POST whose result is sent as JSON."""
        return self._decorator("json", "POST", mask, argc, CachePlan(cache_id, section=cache_section))

    def json_patch(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for PATCH whose result is sent as JSON."""
        return self._decorator("json", "PATCH", mask, argc, CachePlan(cache_id, section=cache_section))

    def text_get(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for GET (and HEAD) whose result is sent as text."""
        return self._decorator("text", "GET", mask, argc, CachePlan(cache_id, section=cache_section))

    def text_put(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for PUT whose result is sent as text."""
        return self._decorator("text", "PUT", mask, argc, CachePlan(cache_id, section=cache_section))

    def text_delete(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for DELETE whose result is sent as text."""
        return self._decorator("text", "DELETE", mask, argc, CachePlan(cache_id, section=cache_section))

    def text_post(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for POST whose result is sent as text."""
        return self._decorator("text", "POST", mask, argc, CachePlan(cache_id, section=cache_section))

    def text_patch(
        self,
        mask: str,
        argc: int | None = None,
        *,
        cache_id: CacheIdF | None = None,
        cache_section: str = "www",
    ) -> Callable[[F], F]:
        """Registers a function for PATCH whose result is sent as text."""
        return self._decorator("text", "PATCH", mask, argc, CachePlan(cache_id, section=cache_section))

    def add_json_mask(self, start: str, method: str, fun: ReqF) -> None:
        """Registers `fun` for that method; its result is sent as JSON."""
        self._add("json", method, start, fun)

    def add_text_mask(self, start: str, method: str, fun: ReqF) -> None:
        """Registers `fun` for that method; its result is sent as text."""
        self._add("text", method, start, fun)

    def add_json_get_mask(self, start: str, fun: ReqF) -> None:
        """`json_get` as a plain method."""
        self._add("json", "GET", start, fun)

    def add_json_put_mask(self, start: str, fun: ReqF) -> None:
        """`json_put` as a plain method."""
        self._add("json", "PUT", start, fun)

    def add_json_delete_mask(self, start: str, fun: ReqF) -> None:
        """`json_delete` as a plain method."""
        self._add("json", "DELETE", start, fun)

    def add_json_post_mask(self, start: str, fun: ReqF) -> None:
        """`json_post` as a plain method."""
        self._add("json", "POST", start, fun)

    def add_json_patch_mask(self, start: str, fun: ReqF) -> None:
        """`json_patch` as a plain method."""
        self._add("json", "PATCH", start, fun)

    def add_text_get_mask(self, start: str, fun: ReqF) -> None:
        """`text_get` as a plain method."""
        self._add("text", "GET", start, fun)

    def add_text_put_mask(self, start: str, fun: ReqF) -> None:
        """`text_put` as a plain method."""
        self._add("text", "PUT", start, fun)

    def add_text_delete_mask(self, start: str, fun: ReqF) -> None:
        """`text_delete` as a plain method."""
        self._add("text", "DELETE", start, fun)

    def add_text_post_mask(self, start: str, fun: ReqF) -> None:
        """`text_post` as a plain method."""
        self._add("text", "POST", start, fun)

    def add_text_patch_mask(self, start: str, fun: ReqF) -> None:
        """`text_patch` as a plain method."""
        self._add("text", "PATCH", start, fun)

    def event_stream(self, mask: str, argc: int | None = None) -> Callable[[EventF], EventF]:
        """Registers a function for server-sent events: `fun(req, args, channel)`.

        It is called once for each client, keeps the `EventChannel` where it is needed and returns;
        the stream stays open, without a thread, until the client leaves or the channel is closed.
        """
        return self._decorator("events", "GET", mask, argc)

    def json_worker(
        self,
        mask: str,
        cache_id: Callable[[WorkerArgs], CacheIdObj | None] | None = None,
        cache_method: str = "string",
        cache_section: str = "www",
        executor: Literal["process"] | Executor | None = None,
    ) -> Callable[[WorkerFunction], WorkerFunction]:
        """Registers a long computation: `fun(post)` gets what the client sent and returns the result.

        Clients follow it with `worker.js` or `worker_request`. `cache_id(post)` names what makes two
        results the same, as a dict (None: do not cache this one): jobs that ask for the same share one
        computation, and with `server.cache` the result is kept.

        It runs in a thread of its own; with `executor="process"` in a process of its own, and with an
        executor of `concurrent.futures`, or of a cluster, wherever that has it run.
        """
        check_section(cache_section)
        worker = self._worker_for(executor)

        def register(function: WorkerFunction) -> WorkerFunction:
            plan = CachePlan(cache_id, cache_method, cache_section)
            computing, behind = unwrap(function)
            around = self._stack.active + behind
            handler = WorkerHandler(mask, computing, worker, plan, around)
            self.routes.add("POST", mask, handler)
            return function

        return register

    def middleware(self, fun: MiddlewareF) -> Callable[[AnyF], AnyF]:
        """Wraps one handler: `fun(req, args, okay)` returns `okay` to go on, or the answer.

        Above or below the decorator that registers the handler.
        """

        def decorate(function: AnyF) -> AnyF:
            registered = [handler for _, handler in self.routes if handler.function is function]
            for handler in registered:
                handler.put_behind(fun)
            return function if registered else cast("AnyF", wrap(function, (fun,)))

        return decorate

    def middlewares(self, *funs: MiddlewareF) -> AbstractContextManager[None]:
        """Inside of `with server.middlewares(f, g):` every handler is registered behind these."""
        return self._stack.adding(funs)

    def add_pre_middleware(self, fun: PreMiddlewareF) -> None:
        """Runs `fun(req, path, cookie)` before everything else, for files and functions alike.

        It stops a request only by raising, `PreventDefaultResponse` for instance; headers that it
        sends are part of whatever the answer is.
        """
        self.pre_middleware += (fun,)

    def cmd(
        self,
        argc: int | None = None,
        complete: CmdCompleteF | None = None,
        no_replace: bool = False,
    ) -> Callable[[CommandF], CommandF]:
        """Registers a command: `fun(args)` gets the words that are typed after its name.

        An underscore in the name is a space when typed, unless `no_replace` is set; the first line of
        the docstring is what `help` shows. `argc` is how many words it takes. `complete(args, text)`
        names what the word that begins with `text` may become.
        """

        def register(function: CommandF) -> CommandF:
            name = getattr(function, "__name__", "")
            self.commands.add(name, function, argc, complete, no_replace=no_replace)
            return function

        return register

    def add_cmd_method(
        self,
        name: str,
        fun: CmdF,
        argc: int | None = None,
        complete: CmdCompleteF | None = None,
    ) -> None:
        """Registers `fun` as the command `name`, underscores being spaces."""
        self.commands.add(name, fun, argc, complete)

    def handle_cmd(self, line: str) -> None:
        """Does what somebody would have typed. What is wrong with it is logged, and nothing raised."""
        self.commands.handle(line)

    def set_file_argc(self, mask: str, argc: int | None) -> None:
        """Sets the number of segments that may follow a mask, for all its methods."""
        self.routes.set_argc(mask, argc)

    def _worker_for(self, executor: Literal["process"] | Executor | None) -> BaseWorker:
        """Where the jobs of a worker are computed."""
        raise NotImplementedError

    def _decorator(
        self, kind: Kind, method: str, mask: str, argc: int | None, plan: CachePlan = _NO_PLAN
    ) -> Callable[[AnyF], AnyF]:
        def register(function: AnyF) -> AnyF:
            self._add(kind, method, mask, function, argc, plan)
            return function

        return register

    def _add(
        self,
        kind: Kind,
        method: str,
        mask: str,
        function: Callable[..., Any],
        argc: int | None = None,
        plan: CachePlan = _NO_PLAN,
    ) -> None:
        check_section(plan.section)
        around = self._stack.active
        if plan.cache_id is None:
            handler = Handler(function, kind, around)
        else:
            handler = CachedHandler(function, kind, around, plan, self._results)
        self.routes.add(method.upper(), mask, handler, argc)
