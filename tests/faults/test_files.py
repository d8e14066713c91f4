"""Cases 27 to 31: what names of files lead to, and what stands there.

nginx serves the same folder; the other peers have no files of their own.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.conftest import Observed
from tests.faults.messages import KIB, MIB, ask, get
from tests.faults.talk import Talk
from tests.harness import PATIENCE, Client
from tests.integration.scripts import Script
from tests.wire.origins import FILE, Origin

# ---- 27 to 30: what is not to be had ----------------------------------------------------------

OUTSIDE = [
    "/../secret.txt", "/%2e%2e/secret.txt", "/%2E./secret.txt", "/..%2fsecret.txt",
    "/%2e%2e%2fsecret.txt", "/..%5csecret.txt", "/..\\secret.txt",
    "/file.txt/../../secret.txt", "/%2f..%2fsecret.txt",
    "/%252e%252e/secret.txt", "/../www-secret/secret.txt", "/-secret/secret.txt",
    "//localhost/../secret.txt", "/%5c%5clocalhost%5cc$%5csecret.txt", "/C:/secret.txt",
    "/C:%5csecret.txt",
    "/file.txt%00", "/file.txt%00.html", "/file.txt::$DATA", "/CON", "/NUL.txt", "/aux", "/com1.txt",
    "//etc/hostname", "/%2fetc/hostname",
]  # fmt: skip


@pytest.mark.peers("nginx")
@pytest.mark.parametrize("target", OUTSIDE)
def test_27_names_that_lead_elsewhere(talk: Talk, root: Path, observed: Observed, target: str) -> None:
    """`..`, `%2e`, `%2f`, `%5c`, `%00`, drive letters, UNC, device names: 404 or 400."""
    heard = ask(talk, target)
    observed(f"{heard}{', the secret' if b'secret' in heard.bodies[0] else ''}")
    assert heard.statuses[0] in (400, 404)
    assert heard.bodies[0] != b"secret"


@pytest.mark.peers("nginx")
def test_28_links_out_of_the_folder(talk: Talk, root: Path, observed: Observed) -> None:
    """404, for links to files and to folders; links within are served."""
    (root / "out.txt").symlink_to("../secret.txt")
    (root / "out").symlink_to("../www-secret")
    (root / "absolute.txt").symlink_to(root.parent / "secret.txt")
    (root / "twice.txt").symlink_to("out.txt")
    (root / "in.txt").symlink_to("file.txt")
    heard = [
        ask(talk, target) for target in ("/out.txt", "/out/secret.txt", "/absolute.txt", "/twice.txt")
    ]
    observed(" and ".join(dict.fromkeys(map(str, heard))))
    assert [one.statuses[0] for one in heard] == [404] * 4
    assert ask(talk, "/in.txt").bodies[0] == FILE


@pytest.mark.peers("nginx")
def test_28_links_that_change_meanwhile(talk: Talk, root: Path, observed: Observed) -> None:
    """What was opened is judged, not its name: no secret gets out while a link changes all the time."""
    (root / "inside").mkdir()
    (root / "inside" / "secret.txt").write_text("public")
    over, bodies = threading.Event(), Counter[bytes]()

    def swap() -> None:
        while not over.is_set():
            for target in ("inside", "../www-secret"):
                (root / "new").symlink_to(target)
                (root / "new").replace(root / "swapped")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        while min(bodies[b"public"], bodies.total() - bodies[b"public"]) < 200:  # both were seen often
            bodies.update(talk(get("/swapped/secret.txt") * 50, probe=True).bodies[:-1])
    finally:
        over.set()
        thread.join()
    observed("the secret gets out" if b"secret" in bodies else "no secret gets out")
    assert b"secret" not in bodies


@pytest.mark.peers("nginx")
def test_28_links_that_are_allowed(start: Callable[..., Script], tmp_path: Path) -> None:
    """`server.follow_symlinks = True` allows them."""
    (tmp_path / "www").mkdir()
    (tmp_path / "secret.txt").write_text("no secret")
    (tmp_path / "www" / "out.txt").symlink_to("../secret.txt")
    script = start("server.bind_path('/', 'www')\nserver.follow_symlinks = True")
    assert script.connect().request("GET", "/out.txt").body == b"no secret"


@pytest.mark.peers("nginx")
def test_29_a_folder_whose_name_begins_the_same(start: Callable[..., Script], tmp_path: Path) -> None:
    """Neither the path nor a link from `/www` leads into `/www-secret`: 404."""
    for name in ("www", "www-secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text(name)
    (tmp_path / "www" / "over").symlink_to("../www-secret")
    client = start("server.bind_path('/www/', 'www')").connect()
    assert client.request("GET", "/www/x.txt").body == b"www"
    for target in (
        "/www-secret/x.txt",
        "/www/../www-secret/x.txt",
        "/www%2d%73ecret/x.txt",
        "/www/%2e%2e/www-secret/x.txt",
        "/www/..%2fwww-secret/x.txt",
        "/www/over/x.txt",
    ):
        assert client.request("GET", target).status in (400, 404), target


@contextmanager
def odd_things(root: Path) -> Iterator[list[str]]:
    """A FIFO, a socket, and where that may be made, a device."""
    names = ["/pipe.txt", "/socket.txt"]
    os.mkfifo(root / "pipe.txt")
    folder = os.open(root, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"/proc/self/fd/{folder}/socket.txt")  # names of sockets are short
            if os.geteuid() == 0:
                os.mknod(root / "zero.txt", stat.S_IFCHR | 0o666, os.makedev(1, 5))
                names.append("/zero.txt")
            yield names
    finally:
        os.close(folder)
        for path in root.glob("[psz][ioe]*.txt"):
            path.unlink()


@pytest.mark.peers("nginx")
def test_30_what_is_no_file(talk: Talk, root: Path, observed: Observed) -> None:
    """404 for a FIFO, a socket and a device, at once, however many ask for it."""
    with odd_things(root) as names:
        heard = [ask(talk, name) for name in names * 10]
    observed(" and ".join(dict.fromkeys(map(str, heard))))
    assert {str(one) for one in heard} == {"404, keeps"}


# ---- 31: files that change --------------------------------------------------------------------


@contextmanager
def begun(origin: Origin, size: int) -> Iterator[tuple[Path, Client]]:
    """A download in its midst: the client has read the head, and the kernel keeps little for it."""
    path = origin.root / "changing.bin"
    path.write_bytes(b"x" * size)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        sock.settimeout(PATIENCE)
        sock.connect(origin.address)
        client = Client(sock).send(get("/changing.bin"))
        while b"\r\n\r\n" not in client.rest:
            client.rest += sock.recv(4096)
        yield path, client
    path.unlink()


@pytest.mark.peers("nginx")
def test_31_a_file_that_grows(talk: Talk, observed: Observed) -> None:
    """Exactly Content-Length bytes are sent; kept."""
    with begun(talk.origin, 16 * MIB) as (path, client):
        talk.uncounted = True
        with path.open("ab") as file:
            file.write(b"more" * 1000)
        answer = client.answer()
        observed(f"{len(answer.body)} bytes")
        assert answer.body == b"x" * 16 * MIB
        assert client.request("GET", "/file.txt").body == FILE


@pytest.mark.peers("nginx")
def test_31_a_file_that_shrinks(talk: Talk, observed: Observed) -> None:
    """The connection is aborted: nothing else completes the answer."""
    with begun(talk.origin, 16 * MIB) as (path, client):
        talk.uncounted = True
        client.send(get("/file.txt"))
        os.truncate(path, 1000)
        try:
            while data := client.sock.recv(65536):
                client.rest += data
            end = "closes"
        except ConnectionResetError:
            end = "resets"
        except TimeoutError:
            end = "waits"
        body = client.rest.partition(b"\r\n\r\n")[2]
        observed("completed by something else" if FILE in body else f"breaks off, {end}")
        assert end == "resets"
        assert FILE not in body
        assert len(body) < 16 * MIB
