"""What a supervisor does for children that are not its own."""

from __future__ import annotations

import subprocess
import sys

from tests.harness import PATIENCE
from tests.integration.scripts import environment

SCRIPT = """
import ctypes, os
from quick_server import supervisor

assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER: orphans come to us
reader, writer = os.pipe()
told, tell = os.pipe()
child = os.fork()
if not child:
    os.close(writer)
    os.read(reader, 1)  # until its parent is done with the others
    os._exit(4)
parent = os.fork()
if not parent:
    orphan = os.fork()
    os.write(tell, str(orphan).encode()) if orphan else None
    os._exit(0)
os.waitpid(parent, 0)
orphan = int(os.read(told, 100))
os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
supervisor._bury_orphans(child)
try:
    os.waitpid(orphan, os.WNOHANG)
except ChildProcessError:
    print("buried")
os.close(writer)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
supervisor._bury_orphans(child)
print("left", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
supervisor._bury_orphans(child)
"""


def test_orphans_are_buried_and_the_own_child_is_not() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.stdout, done.stderr) == ("buried\nleft 4\n", "")
