"""quick_server: an HTTP server to put into a script.

>>> from quick_server import create_server
>>> server = create_server(("", 8080))  # doctest: +SKIP
>>> server.bind_path("/", "www")  # doctest: +SKIP
>>> @server.json_get("/hello")  # doctest: +SKIP
... def hello(req, args):
...     return {"hello": args["query"].get("name", "world")}
>>> server.serve_forever()  # doctest: +SKIP
"""

from .cache import CacheIdObj
from .client import WorkerError, worker_request
from .commands import CmdCompleteF, CmdF, CmdState
from .events import EventChannel
from .handlers import ReqF
from .jsontext import json_dumps
from .lifecycle import (
    get_exec_arr,
    has_been_restarted,
    is_original,
    set_error_exit_code,
    set_restart_exit_code,
    setup_restart,
)
from .log import (
    LONG_MSG,
    MSG_STDERR,
    ErrHandler,
    PrintF,
    debug,
    get_time,
    msg,
    set_global_error_handler,
    set_log_file,
)
from .middleware import MiddlewareF, ReqNext
from .pool import ThreadFactory
from .redistokens import RedisTokenHandler
from .request import QuickServerRequestHandler, ReqArgs
from .responses import AnyStrResponse, MultipartResponse, PreventDefaultResponse, Response
from .server import PostFileLens, QuickServer, create_server
from .shutdown import add_shutdown_hook, setup_shutdown
from .tokenobjects import TokenHandler, TokenObj
from .tokens import DefaultTokenHandler
from .version import __version__
from .workers import (
    BaseWorker,
    DefaultWorker,
    WorkerArgs,
    WorkerDeath,
    WorkerF,
    WorkerResponse,
    WorkerTask,
    WorkerThreadFactory,
    get_worker_check,
    is_worker_alive,
    progress,
    track,
)

__all__ = [
    "LONG_MSG",
    "MSG_STDERR",
    "AnyStrResponse",
    "BaseWorker",
    "CacheIdObj",
    "CmdCompleteF",
    "CmdF",
    "CmdState",
    "DefaultTokenHandler",
    "DefaultWorker",
    "ErrHandler",
    "EventChannel",
    "MiddlewareF",
    "MultipartResponse",
    "PostFileLens",
    "PreventDefaultResponse",
    "PrintF",
    "QuickServer",
    "QuickServerRequestHandler",
    "RedisTokenHandler",
    "ReqArgs",
    "ReqF",
    "ReqNext",
    "Response",
    "ThreadFactory",
    "TokenHandler",
    "TokenObj",
    "WorkerArgs",
    "WorkerDeath",
    "WorkerError",
    "WorkerF",
    "WorkerResponse",
    "WorkerTask",
    "WorkerThreadFactory",
    "__version__",
    "add_shutdown_hook",
    "create_server",
    "debug",
    "get_exec_arr",
    "get_time",
    "get_worker_check",
    "has_been_restarted",
    "is_original",
    "is_worker_alive",
    "json_dumps",
    "msg",
    "progress",
    "set_error_exit_code",
    "set_global_error_handler",
    "set_log_file",
    "set_restart_exit_code",
    "setup_restart",
    "setup_shutdown",
    "track",
    "worker_request",
]
