"""Multipart bodies (RFC 7578), fed to the `multipart` package's push parser as they arrive.

`Upload` lives on the loop thread and hands what has arrived to one job at a time in the pool, where
parsing and writing happen; while that is behind, the client is not read. A form's files are in
memory while they are small, each and together, then in temporary files without a name. Whoever holds
the form closes it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable

import multipart

from .exchange import Exchange
from .limits import MIB, Limits
from .log import escape, log_exception, log_server
from .pool import Errand, Job, Pool, PoolFullError
from .protocol.errors import error_outcome
from .protocol.forms import charset_of, known_charset
from .protocol.messages import Outcome, ProtocolError

_BEHIND = 1 * MIB  # bytes that wait for the pool before the client is not read any more
_CONTROL = re.compile(r"[\x00-\x08\n-\x1f\x7f]")


class UploadedFile(tempfile.SpooledTemporaryFile[bytes]):
    """A file that was sent with a form: open for reading, binary, at position 0.

    It is closed and gone once the handler has returned.
    """

    def __init__(self, filename: str, content_type: str, most_in_memory: int) -> None:
        super().__init__()
        self._most_in_memory = most_in_memory
        self.filename = filename
        """The name that the client gives it. Do not use it as a path."""
        self.content_type = content_type
        """The media type that the client gives it."""
        self.size = 0
        """Its length in bytes."""
        self.on_disk = False
        """Whether it has outgrown the memory."""

    def add(self, piece: bytes, *, to_disk: bool) -> bool:
        """Appends a piece; returns whether the file has moved to the disk."""
        self.size += len(piece)
        moves = not self.on_disk and (to_disk or self.size > self._most_in_memory)
        if moves:
            self.on_disk = True
            self.rollover()
        self.write(piece)
        return moves


class Form:
    """The fields and files of a multipart body. Pool threads, one at a time."""

    def __init__(self, boundary: str, charset: str, most_bytes: int, limits: Limits) -> None:
        self.fields: dict[str, str] = {}
        self.files: dict[str, UploadedFile] = {}
        self._charset = charset
        self._limits = limits
        self._most_bytes = most_bytes
        self._room = most_bytes  # for all plain fields together
        self._room_for_all = max(limits.form, most_bytes)
        self._parser = multipart.PushMultipartParser(
            boundary,
            max_header_size=limits.form_part_head,
            max_header_count=8,
            max_segment_count=limits.form_parts,
            header_charset=charset,
        )
        self._delimiter = b"\r\n--" + self._parser.boundary
        self._preamble: bytes | None = b"\r\n"  # its end: a delimiter starts a line, or the body
        self._part: multipart.MultipartSegment | None = None
        self._file: UploadedFile | None = None
        self._field: list[bytes] = []
        self._in_memory = self._on_disk = self._fringe = 0

    def feed(self, data: bytes) -> None:
        """Takes bytes of the body. ProtocolError 400 if it is broken, 413 if it is too large."""
        seen_part = self._part is not None
        self._room_for_all -= len(data)
        if self._room_for_all < 0:
            raise ProtocolError(413, "the form is too large as a whole")
        told = self._after_preamble(data)
        try:
            for event in self._parser.parse(told) if told else ():
                seen_part = True
                if event is None:
                    self._end_part()
                elif isinstance(event, multipart.MultipartSegment):
                    self._begin_part(event)
                else:
                    self._take(bytes(event))
        except multipart.ParserLimitReached as error:
            raise ProtocolError(413, f"the form goes beyond a limit: {error.args[0]}") from None
        except multipart.MultipartError as error:  # whose other arguments quote the form
            raise ProtocolError(400, f"the form is broken: {error.args[0]}") from None
        if not seen_part:
            self._fringe += len(data)
            if self._fringe > self._limits.form_fringe:
                raise ProtocolError(400, "the form has too much beside its parts")

    def complete(self) -> None:
        """The body has ended. ProtocolError 400 if the form has not."""
        try:
            self._parser.close()
        except multipart.MultipartError:
            raise ProtocolError(400, "the form is broken: it ends before its last boundary") from None
        for file in self.files.values():
            file.seek(0)

    def release(self, file: object) -> None:
        """Leaves a file to somebody who closes it later."""
        self.files = {name: known for name, known in self.files.items() if known is not file}

    def close(self) -> None:
        """Closes all files, which makes them go away."""
        for file in (*self.files.values(), *([self._file] if self._file else [])):
            file.close()

    def _after_preamble(self, data: bytes) -> bytes:
        """What is left of the data without what comes before the first delimiter.

        The parser skips that too, but what it takes for a delimiter then depends on how the data
        happens to be cut.
        """
        if self._preamble is None:
            return data
        data = self._preamble + data
        start = data.find(self._delimiter)
        if start < 0:
            self._preamble = data[1 - len(self._delimiter) :]
            return b""
        self._preamble = None
        return data[start + 2 :]

    def _begin_part(self, part: multipart.MultipartSegment) -> None:
        if not part.name:
            raise ProtocolError(400, "the form is broken: a part has no name")
        if sum(len(name) + len(value) for name, value in part.headerlist) > self._limits.form_part_head:
            raise ProtocolError(413, "the form goes beyond a limit: a part's headers are too long")
        if any(_CONTROL.search(value) for _name, value in part.headerlist):
            raise ProtocolError(400, "the form is broken: a control character in a part's headers")
        self._part = part
        self._fringe = 0
        if part.filename is not None:
            kind = part.content_type or "application/octet-stream"
            self._file = UploadedFile(part.filename, kind, self._limits.form_file_in_memory)

    def _take(self, piece: bytes) -> None:
        file = self._file
        if file is None:
            self._room -= len(piece)
            if self._room < 0:
                raise ProtocolError(413, f"the form is too large: over {self._most_bytes} bytes")
            self._field.append(piece)
            return
        if file.size + len(piece) > self._most_bytes:
            limit = f"over {self._most_bytes} bytes"
            raise ProtocolError(413, f"Uploaded file is too large! {file.filename[:80]!r}: {limit}")
        if not file.on_disk:
            self._in_memory += len(piece)
        if file.add(piece, to_disk=self._in_memory > self._limits.form_in_memory):
            self._in_memory -= file.size
            self._on_disk += 1
            if self._on_disk > self._limits.form_files_on_disk:
                limit = f"over {self._limits.form_files_on_disk} large files"
                raise ProtocolError(413, f"the form has {limit}")

    def _end_part(self) -> None:
        part, self._part = self._part, None
        assert part is not None
        assert part.name is not None
        if self._file is None:
            text, self._field = b"".join(self._field), []
            self.fields[part.name] = self._decode(text, part.charset)
            return
        file, self._file = self._file, None
        if not file.filename and not file.size:  # a browser's file input in which nothing was chosen
            file.close()
            return
        before = self.files.get(part.name)
        if before is not None:
            before.close()
        self.files[part.name] = file

    def _decode(self, text: bytes, charset: str | None) -> str:
        codec = known_charset(charset or self._charset)
        try:
            return text.decode(codec)
        except UnicodeDecodeError as error:
            raise ProtocolError(400, f"a field of the form is not {codec}: {error.reason}") from None


class Upload(Job):
    """Receives one multipart body: an exchange's sink, and its own job for the pool."""

    def __init__(
        self, exchange: Exchange, pool: Pool, form: Form, then: Callable[[Form], object]
    ) -> None:
        self.is_greedy = True
        self.limit = 1 << 62  # what is limited are the form's parts, while they are parsed
        self._exchange = exchange
        self._pool = pool
        self._form = form
        self._then = then
        self._arrived: list[bytes] = []
        self._behind = 0  # bytes that have arrived and are not parsed yet
        self._working = b""  # what the job under way parses
        self._under_way = self._complete = self._given_up = False

    # loop thread

    @property
    def has_room(self) -> bool:
        """Whether the pool keeps up with the client."""
        return self._behind <= _BEHIND

    def piece(self, data: bytes) -> None:
        """Bytes of the body."""
        self._arrived.append(data)
        self._behind += len(data)
        self._go_on()

    def complete(self) -> None:
        """All has arrived."""
        self._complete = True
        self._go_on()

    def give_up(self) -> None:
        """Nobody will want the form."""
        self._given_up = True
        self._arrived.clear()
        if not self._under_way:
            self._close_form()

    def _go_on(self) -> None:
        if self._under_way or self._given_up:
            return
        self._working = b"".join(self._arrived)
        self._arrived.clear()
        self._under_way = True
        if not self._exchange.submit(self, self._pool):
            self._under_way = False
            self.give_up()

    def deliver(self, outcome: Outcome | bool | None) -> None:
        """What had arrived is parsed: an error to answer with, or whether the form is complete."""
        self._under_way = False
        self._behind -= len(self._working)
        if self._given_up:
            self._close_form()
        elif isinstance(outcome, Outcome):
            self._given_up = True
            self._exchange.answer(outcome)
            self._close_form()
        elif outcome:
            self._then(self._form)
        else:
            if self._arrived or self._complete:
                self._go_on()
            self._exchange.resume_body()

    def _close_form(self) -> None:
        errand = Errand(self._form.close)
        try:
            self._pool.submit(errand)
        except PoolFullError:
            errand.run()

    # pool thread

    def run(self) -> Outcome | bool:
        """Parses and writes what has arrived; returns whether that was all."""
        head = self._exchange.head
        complete = self._complete
        try:
            if self._working:
                self._form.feed(self._working)
            if complete and not self._arrived:
                self._form.complete()
                return True
        except ProtocolError as error:
            return error_outcome(error.status, error.message, head, close=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            log_server(f"an upload could not be stored: {escape(reason)}")
            full = "the upload could not be stored, try again in a moment"
            return error_outcome(503, full, head, b"Retry-After: 1\r\n", close=True)
        except Exception:
            log_exception("an upload could not be received")
            return error_outcome(500, "the upload could not be stored", head, close=True)
        return False

    def dropped(self) -> None:
        """The pool closed before the job was run."""
        self._form.close()


def make_form(parameters: dict[str, str], most_bytes: int, limits: Limits) -> Form:
    """A form for the parameters of a Content-Type; ProtocolError 400 if they are no good."""
    boundary = parameters.get("boundary", "")
    if not 0 < len(boundary) <= 200:  # RFC 2046 allows 70
        raise ProtocolError(400, "the form is broken: its Content-Type has no usable boundary")
    charset = charset_of(parameters)
    try:
        return Form(boundary, charset, most_bytes, limits)
    except multipart.MultipartError as error:
        raise ProtocolError(400, f"the form is broken: {error}") from None
