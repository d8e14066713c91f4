"""The same requests for the same files, asked of nginx and of us: the answers are the same.

Where they differ and we are right, the difference has a name in `DIFFERENCES`, with its reason and
with what we answer. Everything else is compared: status, the fields that matter, the bytes.
Tags differ by design (a hash of the content here, size and time there), so requests name them by what
they stand for and each side gets its own.
"""

from __future__ import annotations

import email
import email.message
import os
import random
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import pytest

from quick_server import create_server
from quick_server.protocol.writer import http_date
from tests.harness import PATIENCE, Answer, Client, Running, running
from tests.nginx import NGINX, nginx_command

REQUESTS = 1000
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

MODIFIED = 1_500_000_000
BEFORE, SAME, AFTER = (http_date(MODIFIED + shift) for shift in (-3600, 0, 3600))
SIZES = {
    "empty.txt": 0,
    "one.txt": 1,
    "small.txt": 1000,
    "page.html": 5000,
    "kept.json": 64 * 1024,
    "sent.bin": 64 * 1024 + 1,
    "big.bin": 2_000_000,
    "packed.txt": 3000,  # with packed.txt.gz beside it
}
PACKED = 700  # bytes of packed.txt.gz

# The defaults of nginx that are choices, set as ours are; the rest is as it comes.
CONFIGURATION = """
    types {{ text/plain txt; text/html html; application/json json; application/octet-stream bin; }}
    charset utf-8;
    charset_types text/plain;
    if_modified_since before;
    max_ranges 16;
    gzip_static on;
    gzip_vary on;
    keepalive_requests 100000;
    server {{
        listen 127.0.0.1:{port};
        root {root};
    }}
"""


@dataclass(frozen=True)
class Case:
    """One request; values of tag fields say MINE for the tag of the file that is asked for."""

    method: str
    name: str
    fields: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        fields = ", ".join(f"{name}: {value}" for name, value in self.fields.items())
        return f"{self.method} {self.name} [{fields}]"

    @property
    def size(self) -> int:
        return SIZES[self.name]

    @property
    def packed(self) -> bool:
        """Whether the compressed form is what is selected."""
        return self.name == "packed.txt" and "gzip" in self.fields.get("Accept-Encoding", "")

    @property
    def specs(self) -> list[str]:
        return self.fields["Range"].removeprefix("bytes=").split(",")


# ---- where we differ --------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Requests that we answer in another way than nginx, and rightly so."""

    name: str
    reason: str
    applies: Callable[[Case], bool]
    ours: Callable[[Case, Answer], bool]
    """Whether an answer is what we say it is in this case."""


def is_wellformed(case: Case) -> bool:
    unit, _, specs = case.fields["Range"].partition("=")
    found = [re.fullmatch(r" *([0-9]*)-([0-9]*) *", spec) for spec in specs.split(",")]
    return unit == "bytes" and all(
        f is not None and any(f.groups()) and not (all(f.groups()) and int(f[1]) > int(f[2]))
        for f in found
    )


def positions(spec: str, size: int) -> range:
    first, _, last = spec.strip().partition("-")
    if not first:
        return range(max(0, size - int(last)), size)
    return range(int(first), min(size, int(last) + 1 if last else size))


def overlap(case: Case) -> bool:
    parts = [part for spec in case.specs if (part := positions(spec, case.size))]
    return any(a.start < b.stop and b.start < a.stop for a, b in combinations(parts, 2))


def conditions_hold(case: Case) -> bool:
    """RFC 9110 section 13.2.2, for the values that the requests below use."""
    fields = case.fields
    if (tags := fields.get("If-Match")) is not None:
        if "MINE" not in tags.replace('W/"MINE"', "") and tags != "*":
            return False
    elif fields.get("If-Unmodified-Since") == BEFORE:
        return False
    if (tags := fields.get("If-None-Match")) is not None:
        return "MINE" not in tags and tags != "*"
    return fields.get("If-Modified-Since") not in (SAME, AFTER)


def wants_parts(case: Case) -> bool:
    """Whether it is the Range field that decides."""
    if "Range" not in case.fields or not conditions_hold(case):
        return False
    return case.fields.get("If-Range") in (None, '"MINE"', SAME)


def is_whole(case: Case, answer: Answer) -> bool:
    return answer.status == 200 and answer.get("content-length") == str(case.size)


DIFFERENCES = [
    Difference(
        "HEAD has no ranges",
        "RFC 9110 section 14.2: Range is defined for GET alone; nginx answers HEAD with 206 and 416",
        applies=lambda case: case.method == "HEAD" and wants_parts(case),
        ours=is_whole,
    ),
    Difference(
        "any coding",
        "RFC 9110 section 12.5.3: * is every coding that is not named; nginx wants gzip named",
        applies=lambda case: (
            case.name == "packed.txt"
            and case.fields.get("Accept-Encoding") == "*"
            and "Range" not in case.fields
        ),
        ours=lambda case, answer: answer.status != 200 or answer.get("content-encoding") == "gzip",
    ),
    Difference(
        "parts of compressed files",
        "parts are those of the original, so that they join with and without the coding; nginx selects "
        "the compressed file, of which it sends no parts",
        applies=lambda case: case.packed and "Range" in case.fields,
        ours=lambda case, answer: answer.get("content-encoding") is None,
    ),
    Difference(
        "ranges that make no sense",
        "RFC 9110 section 14.2: they may be ignored or refused; we ignore, nginx refuses or skips them",
        applies=lambda case: wants_parts(case) and not is_wellformed(case),
        ours=is_whole,
    ),
    Difference(
        "overlapping ranges",
        "RFC 9110 section 14.2: they may be ignored, as they ask for more than there is; nginx sends "
        "them up to the size of the file",
        applies=lambda case: wants_parts(case) and is_wellformed(case) and overlap(case),
        ours=is_whole,
    ),
    Difference(
        "parts of nothing",
        "RFC 9110 section 14.1.2: nothing has no first byte, hence 416; nginx sends the empty file",
        applies=lambda case: wants_parts(case) and is_wellformed(case) and case.size == 0,
        ours=lambda case, answer: (
            is_whole(case, answer)
            if len(case.specs) > 16 or any(re.match(" *-0*[1-9]", spec) for spec in case.specs)
            else (answer.status, answer.get("content-range")) == (416, "bytes */0")
        ),
    ),
    Difference(
        "dates of another zone",
        "RFC 9110 section 5.6.7: dates are in GMT, others are none; nginx does not look at the zone",
        applies=lambda case: "CET" in str(case),
        ours=lambda case, answer: (
            (answer.status in (304, 412)) != conditions_hold(case)
            and not (answer.status in (206, 416) and "CET" in case.fields.get("If-Range", ""))
        ),
    ),
    Difference(
        "If-None-Match beside If-Modified-Since",
        "RFC 9110 section 13.1.3: the date is ignored beside tags; for a 304 nginx wants both",
        applies=lambda case: {"If-None-Match", "If-Modified-Since"} <= case.fields.keys(),
        ours=lambda case, answer: (answer.status in (304, 412)) != conditions_hold(case),
    ),
    Difference(
        "If-Match beside If-Unmodified-Since",
        "RFC 9110 section 13.1.4: the date is ignored beside tags; nginx wants both to hold",
        applies=lambda case: {"If-Match", "If-Unmodified-Since"} <= case.fields.keys(),
        ours=lambda case, answer: (answer.status in (304, 412)) != conditions_hold(case),
    ),
    Difference(
        "If-Unmodified-Since without a date",
        "RFC 9110 section 13.1.4: what is no date is ignored; nginx takes it for the distant past",
        applies=lambda case: case.fields.get("If-Unmodified-Since", SAME) not in (BEFORE, SAME, AFTER),
        ours=lambda case, answer: (answer.status in (304, 412)) != conditions_hold(case),
    ),
    Difference(
        "tags without quotes",
        "older clients send them so; nginx takes them for other tags",
        applies=lambda case: "MINE" in (case.fields.get("If-Match"), case.fields.get("If-None-Match")),
        ours=lambda case, answer: (answer.status in (304, 412)) != conditions_hold(case),
    ),
]


def difference(case: Case) -> Difference | None:
    return next((each for each in DIFFERENCES if each.applies(case)), None)


# ---- both servers -----------------------------------------------------------------------------


@dataclass
class Side:
    """One of the servers: a connection that is kept, and the tags that it gives."""

    address: tuple[str, int]
    ends_after: int | None = None
    """The status behind which it closes the connection, though it says that it keeps it."""
    client: Client | None = None

    def ask(self, case: Case, tags: dict[tuple[str, bool], str]) -> Answer:
        tag = tags.get((case.name, case.packed and "Range" not in case.fields), "")
        lines = [f"{case.method} /{case.name} HTTP/1.1", "Host: localhost"]
        for name, value in case.fields.items():
            lines.append(f"{name}: {value.replace('MINE', tag)}")
        if self.client is None:
            self.client = Client(socket.create_connection(self.address, PATIENCE))
        self.client.send("\r\n".join(lines) + "\r\n\r\n")
        answer = self.client.answer(head_only=case.method == "HEAD")
        if answer.get("connection") == "close" or answer.status == self.ends_after:
            self.close()
        return answer

    def tags(self) -> dict[tuple[str, bool], str]:
        """The tags of all files, by name and whether it is the compressed form."""
        plain = [Case("GET", name) for name in SIZES]
        packed = Case("GET", "packed.txt", {"Accept-Encoding": "gzip"})
        found = {(case.name, case.packed): self.ask(case, {}).get("etag") for case in [*plain, packed]}
        return {key: value.strip('"') for key, value in found.items() if value}

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
            self.client = None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    contents = {name: random.Random(name).randbytes(size) for name, size in SIZES.items()}
    contents["packed.txt.gz"] = random.Random("packed").randbytes(PACKED)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (MODIFIED, MODIFIED))
    return folder


@pytest.fixture
def nginx(tmp_path: Path, root: Path) -> Iterator[Side]:
    """nginx on a socket that is listening before it starts: there is nothing to wait for."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        process = subprocess.Popen(
            nginx_command(folder, CONFIGURATION.format(root=root, port=port)),
            env=os.environ | {"NGINX": f"{listening.fileno()};"},
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    side = Side(("127.0.0.1", port), ends_after=412)
    try:
        yield side
    finally:
        side.close()
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture
def ours(root: Path) -> Iterator[Side]:
    server = create_server(("127.0.0.1", 0))
    server.suppress_noise = True
    server.bind_path("/", str(root))
    with running(server) as run:
        side = Side(Running(run.server).address)
        yield side
        side.close()


# ---- the requests -----------------------------------------------------------------------------

DATES = [BEFORE, SAME, SAME, AFTER, "not a date", SAME.replace("GMT", "CET")]
TAGS = ['"MINE"', '"MINE"', '"other"', '"other", "MINE"', '"x","y"', 'W/"MINE"', "*", "MINE"]


def generated(number: int) -> Case:
    """The request with that number: the same one in every run."""
    chance = random.Random(number)
    name = chance.choice(list(SIZES))
    size = SIZES[name]
    fields = {}
    if chance.random() < 0.7:
        fields["Range"] = a_range(chance, size)
        if chance.random() < 0.3:
            fields["If-Range"] = chance.choice(['"MINE"', '"MINE"', '"other"', 'W/"MINE"', *DATES])
    if chance.random() < 0.2:
        fields["If-None-Match"] = chance.choice(TAGS)
    if chance.random() < 0.2:
        fields["If-Modified-Since"] = chance.choice(DATES)
    if chance.random() < 0.2:
        fields["If-Match"] = chance.choice(TAGS)
    if chance.random() < 0.2:
        fields["If-Unmodified-Since"] = chance.choice(DATES)
    if chance.random() < 0.3 or name == "packed.txt":
        fields["Accept-Encoding"] = chance.choice(
            ["gzip", "gzip, deflate, br", "identity", "br", "*", "gzip;q=0.5"]
        )
    names = list(fields)
    chance.shuffle(names)
    method = "HEAD" if chance.random() < 0.15 else "GET"
    return Case(method, name, {each: fields[each] for each in names})


def a_range(chance: random.Random, size: int) -> str:
    if chance.random() < 0.1:
        return chance.choice(
            ["bytes=a-b", "bytes=5-2", "bytes=", "lines=0-1", "bytes=1", "bytes=--5", "0-1"]
        )
    if chance.random() < 0.05:
        return "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(chance.choice([15, 16, 17, 30])))
    count = chance.choice([1, 1, 1, 1, 2, 2, 3, 5])
    return "bytes=" + chance.choice([",", ", "]).join(a_spec(chance, size) for _ in range(count))


def a_spec(chance: random.Random, size: int) -> str:
    places = [0, 1, size // 2, max(0, size - 1), size, size + 1, chance.randrange(size + 10)]
    first, second = chance.choice(places), chance.choice(places)
    kind = chance.random()
    if kind < 0.2:
        return f"-{first}"
    if kind < 0.4:
        return f"{first}-"
    if kind < 0.6:
        return f"{first}-{first + chance.randrange(20)}"
    return f"{min(first, second)}-{max(first, second)}"


COMPARED = ("Content-Range", "Last-Modified", "Content-Encoding")


def comparable(answer: Answer) -> dict[str, object]:
    """What both servers have to agree on."""
    result: dict[str, object] = {"status": answer.status}
    if answer.status in (304, 412):
        return result  # error pages are our own; of a 304 nothing else matters but its tag
    if answer.status == 416:
        return result | {"Content-Range": answer.all("Content-Range")}
    result |= {name: answer.all(name) for name in COMPARED}
    ctype = answer.get("content-type") or ""
    if ctype.startswith("multipart/byteranges"):
        return result | {"parts": parts_of(ctype, answer.body)}
    result["Content-Type"] = ctype
    result["Content-Length"] = answer.get("content-length")
    result["body"] = answer.body
    # nginx does not name it for a 206, where it goes without saying
    result["Accept-Ranges"] = answer.get("accept-ranges") if answer.status == 200 else "bytes"
    if answer.get("content-encoding"):
        result["Accept-Ranges"] = None  # of a compressed file nginx sends no parts
    return result


def parts_of(ctype: str, body: bytes) -> list[tuple[object, ...]]:
    message = email.message_from_bytes(f"Content-Type: {ctype}\r\n\r\n".encode() + body)
    assert message.is_multipart()
    assert not message.defects
    return [
        (part["Content-Type"], part["Content-Range"], part.get_payload(decode=True))
        for part in message.get_payload()
        if isinstance(part, email.message.Message)
    ]


def shown(answer: dict[str, object]) -> str:
    return ", ".join(f"{name}={str(value)[:200]}" for name, value in answer.items())


@needs_nginx
def test_generated_requests(nginx: Side, ours: Side) -> None:
    their_tags, our_tags = nginx.tags(), ours.tags()
    compared, wrong = 0, []
    for number in range(REQUESTS):
        case = generated(number)
        answer = ours.ask(case, our_tags)
        found, known = comparable(answer), difference(case)
        if known is None:
            compared += 1
            expected = comparable(nginx.ask(case, their_tags))
            if found != expected:
                wrong.append(f"#{number} {case}\n  nginx: {shown(expected)}\n  ours:  {shown(found)}")
        elif not known.ours(case, answer):
            wrong.append(f"#{number} {case}\n  {known.name}, but: {shown(found)}")
    assert not wrong, f"{len(wrong)} of {REQUESTS} differ:\n" + "\n".join(wrong)
    assert compared > REQUESTS // 2


@needs_nginx
@pytest.mark.parametrize("known", DIFFERENCES, ids=lambda known: known.name.replace(" ", "-"))
def test_known_differences(nginx: Side, ours: Side, known: Difference) -> None:
    """One that is no longer there has to go: its requests are then compared like all others."""
    their_tags, our_tags = nginx.tags(), ours.tags()
    cases = [case for case in map(generated, range(REQUESTS)) if difference(case) is known]
    assert any(
        comparable(nginx.ask(case, their_tags)) != comparable(ours.ask(case, our_tags))
        for case in cases
    )


@needs_nginx
def test_tags_and_vary(nginx: Side, ours: Side) -> None:
    """What both have, each in its own way: strong tags, one for each form, and Vary for both."""
    for side in (nginx, ours):
        tags = side.tags()
        assert tags["packed.txt", False] != tags["packed.txt", True]
        for accept in ("gzip", "identity"):
            case = Case("GET", "packed.txt", {"Accept-Encoding": accept})
            answer = side.ask(case, tags)
            assert answer.get("vary") == "Accept-Encoding"
            assert answer.get("etag") == f'"{tags["packed.txt", accept == "gzip"]}"'
