"""The limit of what Python can do: select, recv, send of a constant answer, nothing parsed.

A request is whatever one ``recv`` returns, so only a client that sends small requests one at a
time gets sensible answers.
"""

import selectors
import socket
import sys

ANSWER = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n{"hello": "world"}'
)


def serve(port: int) -> None:
    """Answers on ``127.0.0.1:port`` for as long as the process lives."""
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                accept(listener, selector)
            else:
                answer(key.data, selector)


def accept(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    """Takes one connection in."""
    peer, _ = listener.accept()
    peer.setblocking(False)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(peer, selectors.EVENT_READ, peer)


def answer(peer: socket.socket, selector: selectors.BaseSelector) -> None:
    """Sends the answer to whatever has arrived; an end of input ends the connection."""
    try:
        received = peer.recv(65536)
    except ConnectionError:
        received = b""
    if received:
        peer.send(ANSWER)
        return
    selector.unregister(peer)
    peer.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
