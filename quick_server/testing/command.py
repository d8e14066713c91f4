"""`quick-server fuzz script.py`: runs a script whose servers are fuzzed and not served.

The script is run as it is. Its servers listen on a free port of this machine alone; when it calls
`serve_forever`, that server is fuzzed, and then the call returns (see `lifecycle.standing_in`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import runpy
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis.configuration import set_hypothesis_home_dir

from ..lifecycle import standing_in
from .findings import FuzzFailure, Report
from .fuzz import fuzz_server
from .surface import routes_of
from .watchdog import watchdog

_DESCRIPTION = """\
Runs a script, and sends odd requests to the server that it makes, instead of serving it.

Every function, worker and file that the script registers is asked, with texts, numbers, JSON, forms and
uploads that clients had better not send. What is wrong is told once, with the shortest command that
shows it: exceptions, answers that are slow, malformed or never come, and what answers leave behind.

Functions are really called: name what must not happen with --skip. The server of the script listens on
a free port of this machine; the commands name the port that the script asks for.
"""
_EXAMPLES = """\
examples:
  quick-server fuzz server.py
  quick-server fuzz --skip 'DELETE *' --skip '/mail/*' server.py
  quick-server fuzz --only /search --examples 5000 --seconds 600 server.py
  quick-server fuzz server.py --port 8000     what follows the script is for the script

The exit code is 0 if nothing was found, 1 if something was, and 2 if there was nothing to try.
"""
_FOUND, _UNTRIED = 1, 2
_STUCK = 4.0  # times `hang`: until then what is stuck may get over it, and is a finding among others
_LEAVING = 0.5  # seconds for the script's threads to end
_ANYWHERE = ("", "0.0.0.0", "::", "127.0.0.1", "::1")


def main(arguments: Sequence[str]) -> int:
    """Runs the command, with what was typed behind `fuzz`; returns its exit code."""
    options = _parser().parse_args(arguments)
    if not os.path.isfile(options.script):
        return _fail(f"there is no script {options.script!r}")
    fuzzer = _Fuzzer(options)
    failure = _run(fuzzer, options.script, options.arguments)
    for report in fuzzer.reports:
        print(report, flush=True)
    if failure or fuzzer.trouble:
        code = _fail(failure or fuzzer.trouble)
    elif not fuzzer.reports:
        code = _fail("the script has not called serve_forever()")
    else:
        code = _FOUND if any(report.findings for report in fuzzer.reports) else 0
    _leave_threads_behind(code)
    return code


class _Fuzzer:
    """Stands in for `serve_forever`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.reports: list[Report] = []
        self.trouble = ""
        """Why a server was not fuzzed."""

    def address(self, _asked: tuple[str, int]) -> tuple[str, int]:
        """A free port, which only this machine can reach."""
        return "127.0.0.1", 0

    def serve(self, server: Any) -> None:
        """Fuzzes the server; what was found is among the reports."""
        options = self._options
        if not routes_of(server, options.only, options.skip):
            self.trouble = "there is nothing to ask for: no function, worker or file"
            server.server_close()
            return
        host, port = server._asked
        port = port or server.server_address[1]
        host = "localhost" if host in _ANYWHERE else f"[{host}]" if ":" in host else host
        try:
            with watchdog(_STUCK * options.hang) as announce, _no_folder_of_hypothesis():
                report = fuzz_server(
                    server,
                    examples=options.examples,
                    seconds=options.seconds,
                    slow=options.slow,
                    hang=options.hang,
                    seed=options.seed,
                    only=options.only,
                    skip=options.skip,
                    wire=options.wire,
                    leaks=options.leaks,
                    url=f"{server.scheme}://{host}:{port}",
                    announce=announce,
                )
        except FuzzFailure as failure:
            report = failure.report
        self.reports.append(report)


def _run(fuzzer: _Fuzzer, script: str, arguments: Sequence[str]) -> str:
    """Runs the script; what it prints goes to stderr. Returns why it could not be run to its end."""
    try:
        with standing_in(fuzzer), _as_main(script, arguments):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as leaving:
        if fuzzer.reports or not leaving.code:
            return ""
        return f"the script has ended: {leaving.code}"
    except Exception as error:
        place = error.__traceback__
        while place is not None and place.tb_frame.f_code.co_filename != script:
            place = place.tb_next  # how the script is run is nobody's concern
        traceback.print_exception(type(error), error, place)
        return "the script has failed"
    return ""


@contextlib.contextmanager
def _no_folder_of_hypothesis() -> Iterator[None]:
    """Inside of `with` what Hypothesis notes of the code goes nowhere near the user's files."""
    with tempfile.TemporaryDirectory(prefix="quick_server-fuzz-", ignore_cleanup_errors=True) as folder:
        set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            set_hypothesis_home_dir(None)


@contextlib.contextmanager
def _as_main(script: str, arguments: Sequence[str]) -> Iterator[None]:
    """Inside of `with` a script finds what it finds when Python runs it."""
    argv, path = sys.argv, sys.path[:]
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.argv, sys.path[:] = argv, path


def _leave_threads_behind(code: int) -> None:
    """Ends the process if threads of the script, that hang or were leaked, would keep it alive."""
    deadline = time.monotonic() + _LEAVING
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)


def _fail(message: str) -> int:
    print(f"quick-server fuzz: {message}", file=sys.stderr)
    return _UNTRIED


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


_positive.__name__, _count.__name__ = "positive number", "positive number"  # as errors name them


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quick-server fuzz",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("script", help="the script, which makes a server and calls serve_forever()")
    add("arguments", nargs=argparse.REMAINDER, metavar="…", help="its own arguments")
    add(
        "--only", action="append", default=[], metavar="MASK", help="ask only for this; may be repeated"
    )
    add(
        "--skip",
        action="append",
        default=[],
        metavar="MASK",
        help="leave this out, such as '/admin/*' or 'DELETE *'; may be repeated",
    )
    add(
        "--examples",
        type=_count,
        default=100,
        metavar="N",
        help="random requests for each route (default: 100)",
    )
    add(
        "--seconds",
        type=_positive,
        default=60.0,
        metavar="S",
        help="time for all of it, shrinking aside (default: 60)",
    )
    add("--slow", type=_positive, default=1.0, metavar="S", help="an answer is slow after (default: 1)")
    add("--hang", type=_positive, default=10.0, metavar="S", help="and missing after (default: 10)")
    add("--seed", type=int, default=0, metavar="N", help="another number: other requests (default: 0)")
    add("--no-wire", dest="wire", action="store_false", help="send no broken bytes")
    add("--no-leaks", dest="leaks", action="store_false", help="do not look for leaks")
    return parser
