"""A source of events for proxies to pass on: every stream has one at each ``/tick``.

As bare as `bare_loop`: a request is whatever one ``recv`` returns.
"""

import selectors
import socket
import sys

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class Source:
    """Streams, and how often they have ticked since the last one came."""

    def __init__(self, port: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.streams: set[socket.socket] = set()
        self.number = 0

    def serve(self) -> None:
        """For as long as the process lives."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self.accept()
                else:
                    self.answer(key.data)

    def accept(self) -> None:
        """Takes one connection in."""
        peer, _ = self.listener.accept()
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(peer, selectors.EVENT_READ, peer)

    def answer(self, peer: socket.socket) -> None:
        """Begins a stream, ticks, or answers in two letters."""
        try:
            received = peer.recv(65536)
        except ConnectionError:
            received = b""
        if not received:
            self.selector.unregister(peer)
            self.streams.discard(peer)
            peer.close()
        elif received.startswith(b"GET /events"):
            self.streams.add(peer)
            self.number = 0
            peer.send(HEAD + chunk(b"data: hello\n\n"))
        elif received.startswith(b"GET /tick"):
            self.tick()
            peer.send(OK)
        else:
            peer.send(OK)

    def tick(self) -> None:
        """An event for each stream."""
        event = chunk(b"data: %d\n\n" % (self.number % 10))
        self.number += 1
        for stream in self.streams:
            try:
                stream.send(event)
            except ConnectionError:  # it will be told by the selector
                continue


def chunk(data: bytes) -> bytes:
    """Data as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


if __name__ == "__main__":
    Source(int(sys.argv[1])).serve()
