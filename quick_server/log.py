"""What the server says: `msg` for people, the access log, and reports of trouble.

Any thread. One lock keeps lines whole. A log that cannot be written (a closed pipe, a full disk)
is given up line by line and never disturbs what is being served. Text that comes from a client
passes through `escape` before it gets here.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

LONG_MSG = True
"""Whether `msg` says which file and line it was called from."""
MSG_STDERR = True
"""Whether `msg` writes to stderr (else stdout) while no log file is set."""


class LogFile(Protocol):
    """What `set_log_file` takes: anything with `write` and `flush`."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


PrintF = Callable[[str], None]
ErrHandler = Callable[[BaseException], object]
"""What `set_global_error_handler` takes."""

_file: LogFile | None = None
_error_handler: ErrHandler | None = None
_sink: Callable[[str], object] | None = None
_sink_files: tuple[object, ...] = ()
_lock = threading.RLock()  # a signal's handler may come in between, and log, too
_traceback_lock = threading.Lock()
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_PIECE = 4000  # characters of a frame or a message in a traceback: a client may have sent it
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def set_log_file(file: LogFile | None) -> None:
    """Sends all log lines to `file`; None: back to stderr."""
    global _file
    _file = file


@contextmanager
def logging_to(file: LogFile) -> Iterator[None]:
    """Inside of `with` all log lines go to `file`; behind it they go where they went before."""
    before = _file
    set_log_file(file)
    try:
        yield
    finally:
        set_log_file(before)


def divert(sink: Callable[[str], object] | None, files: tuple[object, ...] = ()) -> None:
    """Has each line for one of these files go to `sink(line)`; None: all go to their files."""
    global _sink, _sink_files
    _sink, _sink_files = sink, files


def set_global_error_handler(handler: ErrHandler | None) -> None:
    """Has `handler(error)` called for what the user's own functions raise; None: nobody.

    For handlers, commands, jobs, streams and the like, once the log tells of it, in the thread where it
    happened.
    """
    global _error_handler
    _error_handler = handler


def emphasise(text: str) -> str:
    """The text in bold, where log lines go to a terminal and NO_COLOR is not set."""
    return f"\x1b[1m{text}\x1b[0m" if has_colours(_destination()) else text


def has_colours(file: object) -> bool:
    """Whether what is written there may carry colours: a terminal, unless NO_COLOR is set."""
    try:
        is_terminal = file.isatty()  # type: ignore[attr-defined] # not every file of a log has it
    except (AttributeError, ValueError):
        return False
    return bool(is_terminal) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def escape(text: str) -> str:
    r"""Makes control characters visible, so that a client can neither forge nor garble a line.

    >>> escape("a\nb")
    'a\\x0ab'
    """
    return _CONTROL.sub(_visible, text)


def quote(text: str) -> str:
    r"""The same within quotes, which nothing in the text can end.

    >>> print(quote('GET /" 200 HTTP/1.1'))
    "GET /\x22 200 HTTP/1.1"
    """
    return '"' + escape(text).replace('"', "\\x22") + '"'


def _visible(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _renew_lock() -> None:
    """In a process that was forked nobody is left who would release it, or take lines elsewhere."""
    global _traceback_lock
    divert(None)
    _lock.release()
    _traceback_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # nobody is in the midst of writing when the process is forked
    os.register_at_fork(
        before=_lock.acquire,
        after_in_parent=_lock.release,
        after_in_child=_renew_lock,
    )


def write_line(line: str) -> None:
    """Writes one line (or several, when it is a traceback) and flushes."""
    file = _destination()
    if file is None:  # a process without standard streams
        return
    sink = _sink
    if sink is not None and any(file is diverted for diverted in _sink_files):
        sink(line)
        return
    with _lock:
        try:
            file.write(line + "\n")
            file.flush()
        except Exception:  # noqa: S110 (there is nowhere to log it)
            pass  # the log's end is gone, or fails: no reason to stop serving


def _destination() -> LogFile | None:
    if _file is not None:
        return _file
    return sys.stderr if _settings("MSG_STDERR") else sys.stdout


def msg(text: str, *args: object, **kwargs: object) -> None:
    """Logs `text.format(*args, **kwargs)`, or `text` as it is when there are no arguments.

    The line starts with the caller's `file.py (line): `, or with `[SERVER] ` when
    `quick_server.LONG_MSG` is False. Lines of the server itself always start with `[SERVER] `.

    >>> msg("starting server at {0}:{1}", "localhost", 8080)  # doctest: +SKIP
    script.py (12): starting server at localhost:8080
    """
    line = text.format(*args, **kwargs) if args or kwargs else text
    prefix = _caller_prefix(sys._getframe(1)) if _settings("LONG_MSG") else "[SERVER] "
    write_line(prefix + line)


def debug(text: Callable[[], str]) -> None:
    """Logs what `text()` returns, and only calls it, while QUICK_SERVER_DEBUG is set."""
    if os.environ.get("QUICK_SERVER_DEBUG"):
        write_line(f"[DEBUG] {_caller_prefix(sys._getframe(1))}{text()}")


def log_server(line: str) -> None:
    """Logs a line of the server's own."""
    write_line("[SERVER] " + line)


def log_exception(what: str) -> None:
    """Logs `what` and the traceback of the exception that is being handled. Never raises."""
    log_traceback(what, format_exception())


def log_failure(what: str) -> None:
    """The same for what a function of the user's raised: the global error handler gets it, too."""
    log_exception(what)
    error = sys.exc_info()[1]
    if error is not None:
        tell_error_handler(error)


def tell_error_handler(error: BaseException) -> None:
    """Calls the global error handler, if there is one. Never raises."""
    if _error_handler is None:
        return
    try:
        _error_handler(error)
    except BaseException:
        log_exception("the global error handler failed")


def log_traceback(what: str, trace: str) -> None:
    """Logs `what` and a traceback, indented: no message in it can pass for a line of the log."""
    lines = trace.rstrip().split("\n")
    write_line("\n  ".join(["[SERVER] " + escape(what), *map(escape, lines)]))


def format_exception() -> str:
    """The traceback of the exception that is being handled. Never raises, whatever that is.

    Each of its pieces has a bound, as a message may have all in it that a client has sent.

    It is formatted by one thread at a time: Python 3.11 before 3.11.5 parses the source lines with a
    state that threads share, and fails with a SystemError when two do so at once.
    """
    with _traceback_lock:
        kind, error, trace = sys.exc_info()
        try:
            import traceback  # which takes a descriptor, and there may be none left

            return "".join(map(_shortened, traceback.format_exception(kind, error, trace)))
        except Exception:  # somebody else was parsing, or it is one that cannot be shown
            name = kind.__name__ if kind is not None else "nothing"
            message = f": {error}" if type(error) is OSError else ""
            return f"{name}{message} (it has no readable traceback)"


def _shortened(piece: str) -> str:
    left_out = len(piece) - _LONGEST_PIECE
    return piece if left_out <= 0 else f"{piece[:_LONGEST_PIECE]}… and {left_out} more characters\n"


def get_time() -> float:
    """Seconds on a clock that never goes back; only differences mean something."""
    return time.monotonic()


def timestamp(now: float) -> str:
    """Local time for a log line: `2026-01-31 12:00:00`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))


def size_string(size: float) -> str:
    """Bytes for people.

    >>> size_string(1229)
    '1.2 kB'
    """
    if size < 1024:
        return f"{int(size)} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TB"


def elapsed_string(milliseconds: float) -> str:
    """A duration for people.

    >>> elapsed_string(6012.3)
    '6.01s'
    """
    return f"{milliseconds:.2f}ms" if milliseconds < 1000 else f"{milliseconds / 1000:.2f}s"


def _caller_prefix(frame: FrameType) -> str:
    name = frame.f_code.co_filename
    if name.startswith(_PACKAGE):
        return "[SERVER] "
    return f"{os.path.basename(name)} ({frame.f_lineno}): "


def _settings(name: str) -> bool:
    """A setting that callers change as an attribute of the package: `quick_server.LONG_MSG`."""
    package = sys.modules.get(__package__)
    return bool(getattr(package, name, globals()[name]))
