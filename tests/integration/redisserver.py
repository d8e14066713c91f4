"""A Redis of a test's own: on a socket in its folder, without a port, and without a file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import redis

from quick_server import RedisTokenHandler
from tests.harness import PATIENCE


class RedisServer:
    """One `redis-server`, which can stand still, end, and come back empty."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        self._folder = folder
        self.socket = folder / "redis.sock"
        self._command = [program, "--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        self._handlers: list[RedisTokenHandler] = []
        self.client = redis.Redis(unix_socket_path=str(self.socket))
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def handler(self, **options: float) -> RedisTokenHandler:
        """A store of its own, as another server would have, which is closed in the end."""
        handler = RedisTokenHandler(self.url, **options)  # type: ignore[arg-type] # all but the prefix
        self._handlers.append(handler)
        return handler

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, cwd=self._folder, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "no Redis"
                time.sleep(0.01)

    def stand_still(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        """Also while it stands still."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def dispose(self) -> None:
        self.end()
        for handler in self._handlers:
            handler.close()
        self.client.close()
