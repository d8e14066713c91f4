"""A real server against any bytes: every answer is well-formed, never a 500, and there is an end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given

import quick_server
from quick_server import create_server
from tests.harness import Running, running
from tests.protocol.test_server import WIRE

pytestmark = pytest.mark.timeout(0)


class _Nowhere:
    def write(self, text: str, /) -> None: ...
    def flush(self) -> None: ...


@pytest.fixture
def server() -> Iterator[Running]:
    quick_server.set_log_file(_Nowhere())
    made = create_server(("127.0.0.1", 0))
    made.add_json_get_mask("/a", lambda req, args: {"query": args["query"], "paths": args["paths"]})
    made.add_json_post_mask("/a", lambda req, args: args["post"])
    made.add_json_put_mask("/c", lambda req, args: args["post"])
    with running(made) as run:
        yield run
    quick_server.set_log_file(None)


@given(data=WIRE)
def test_answers(server: Running, data: bytes) -> None:
    client = server.connect().send(data).half_close()
    try:
        while client.rest or client._fill():
            head_only = data.startswith(b"HEAD")
            answer = client.answer(head_only=head_only)
            assert answer.status in (100, 200, 400, 404, 405, 408, 413, 414, 417, 431, 501, 505), answer
    finally:
        client.close()
        server.clients.remove(client)
