"""Tells which request has stopped the whole process, when nothing in it can tell any more.

A regular expression that backtracks for ever, or another call into C that keeps the interpreter's lock,
stops all threads: the fuzzer, too. `faulthandler` has a clock that needs no lock. When no thread has
put it back for long, it writes where the threads are, and ends the process. The command of the request
is in the same file by then, and another process, which is this file run as a script, shows both. So it
does after a crash.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator

_NAME = "latest"
_TIMEOUT = "Timeout ("  # what faulthandler writes in front of the threads
_FRAME = re.compile(r'  File "(.+)", line \d+ in ')
_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_MOST = 4000  # characters of a command


@contextlib.contextmanager
def watchdog(patience: float) -> Iterator[Callable[[str], object]]:
    """Inside of `with` a process that is stuck for so many seconds ends, with 1.

    The function is to be called with the command of each request, before that is sent. Temporary files
    are in a folder that goes with the process, however that ends.
    """
    before = tempfile.tempdir
    folder = tempfile.mkdtemp(prefix="quick_server-fuzz-")
    teller = [sys.executable, "-P", __file__, folder, f"{patience:g}"]
    with (
        open(os.path.join(folder, _NAME), "ab", buffering=0) as file,
        subprocess.Popen(teller, stdin=subprocess.PIPE, start_new_session=True) as process,  # noqa: S603 (this file)
    ):

        def announce(command: str) -> None:
            file.truncate(0)
            file.write(command[:_MOST].encode("utf-8", "backslashreplace") + b"\n")

        def beat() -> None:
            faulthandler.dump_traceback_later(patience, exit=True, file=file)
            while not ended.wait(patience / 4):
                faulthandler.dump_traceback_later(patience, exit=True, file=file)
            faulthandler.cancel_dump_traceback_later()

        ended = threading.Event()
        heart = threading.Thread(target=beat, name="heartbeat")
        heart.start()
        try:
            tempfile.tempdir = folder
            yield announce
        finally:
            tempfile.tempdir = before
            ended.set()
            heart.join()
            file.truncate(0)
            assert process.stdin is not None
            process.stdin.close()


def _tell(folder: str, patience: str) -> None:
    """Waits for the end of the process that began this one, and shows what it has left."""
    sys.stdin.read()
    with open(os.path.join(folder, _NAME), encoding="utf-8", errors="replace") as file:
        command, timeout, threads = file.read().partition(_TIMEOUT)
    shutil.rmtree(folder, ignore_errors=True)
    if timeout:
        print(f"no answer, and nothing else in this process could run for {patience} s:")
    elif command:
        print("the process has ended, and this is what was sent last:")
    else:
        return
    print(f"\n    {command}")
    for stack in threads.split("\n\n"):
        for line in _busy(stack.splitlines()):
            print(f"    {line}")


def _busy(stack: list[str]) -> list[str]:
    """What a thread is about in code that is not this package's; nothing if it waits for something."""
    kept: list[str] = []
    waits = True
    for line in stack:
        frame = _FRAME.match(line)
        if frame is None:
            continue
        if frame[1].startswith(_PACKAGE):
            break
        kept.append(line)
        waits = waits and _is_of_python(frame[1])
    return [] if waits else kept


def _is_of_python(file: str) -> bool:
    installed = sysconfig.get_path("purelib"), sysconfig.get_path("platlib")
    return file.startswith(("<frozen", sysconfig.get_path("stdlib"))) and not file.startswith(installed)


if __name__ == "__main__":
    _tell(*sys.argv[1:])
