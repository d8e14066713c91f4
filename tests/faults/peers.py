"""Peers in positions for which `tests.wire.origins` has none: nginx in front of an upstream.

Its configuration is what its documentation recommends for such a proxy; timeouts are given, as the
defaults are longer than a test may take. And any of `origins`, for a test that spoils it for others.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Protocol

import pytest

from tests.faults.processes import serving, until
from tests.harness import PATIENCE, Client
from tests.integration.scripts import Script
from tests.nginx import NGINX, ONE_PROCESS, nginx_command
from tests.ports import vacant_port
from tests.wire.origins import SERVERS, AbsentError, Origin

_CONFIGURATION = Template("""\
    map $$http_upgrade $$connection_upgrade { default upgrade; '' ''; }
    upstream behind { server 127.0.0.1:$upstream; keepalive 16; }
    server {
        listen 127.0.0.1:$port;
        client_max_body_size 0;
        location /up/ {
            proxy_pass http://behind/base/;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $$http_upgrade;
            proxy_set_header Connection $$connection_upgrade;
            proxy_set_header X-Forwarded-For $$proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $$scheme;
            proxy_set_header X-Forwarded-Host $$host;
            proxy_connect_timeout ${connect_timeout}ms;
            proxy_read_timeout ${read_timeout}ms;
        }
    }
""")


class Proxy(Protocol):
    """A proxy that passes `/up/` on to the upstream's `/base/`."""

    @property
    def pid(self) -> int: ...
    @property
    def port(self) -> int: ...
    def connect(self) -> Client: ...


@dataclass
class NginxProxy:
    """nginx in a process of its own."""

    pid: int
    port: int
    clients: list[Client] = field(default_factory=list)

    def connect(self) -> Client:
        client = Client(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE))
        self.clients.append(client)
        return client


@contextmanager
def alone(origin: str, folder: Path, **options: Any) -> Iterator[Origin]:
    """That server in a process of its own, as `tests.wire.origins` starts it, with what that takes."""
    try:
        with SERVERS[origin](folder, **options) as running:
            yield running
    except AbsentError as error:
        pytest.skip(str(error))


@contextmanager
def proxying(
    origin: str, folder: Path, upstream: int, limits: Mapping[str, float] | None = None
) -> Iterator[Proxy]:
    """That server as a proxy in front of the upstream at that port, with these limits."""
    if origin == "quick_server":
        bound = f'server.bind_proxy("/up/", "http://127.0.0.1:{upstream}/base")'
        with serving(folder, bound, limits=limits) as served:
            yield served
    else:
        with _nginx(folder, upstream, **(limits or {})) as proxy:
            yield proxy


@contextmanager
def _nginx(
    folder: Path,
    upstream: int,
    connect_timeout: float = 5,
    first_byte_timeout: float = 60,
    tunnel_idle: float = 600,
) -> Iterator[NginxProxy]:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    port = vacant_port()
    servers = _CONFIGURATION.substitute(
        port=port,
        upstream=upstream,
        connect_timeout=int(connect_timeout * 1000),
        read_timeout=int(min(first_byte_timeout, tunnel_idle) * 1000),
    )
    script = Script(nginx_command(folder, servers, ONE_PROCESS), folder)
    proxy = NginxProxy(script.process.pid, port)
    try:
        until(lambda: _listens(port), "nginx listens")
        yield proxy
    finally:
        for client in proxy.clients:
            client.close()
        script.dispose()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionError:
        return False
    return True
