"""Files: from the path of a request to what is sent.

Runs on pool threads, but for the calls that bind folders and set lists. The policy, in order:

1. A path maps to a file only segment by segment. A segment that is hidden (`.git`), a dot segment,
   or one that could mean something else to some file system (separators, NUL, drives, device names)
   maps to nothing.
2. The mappings are tried in order; the first where the path exists wins.
3. What is sent is a regular file that really lies in the bound folder. That is checked on what was
   opened: the descriptor must be the very file that the resolved path names, and that is looked for
   without following links, so that a link that is changed meanwhile, and back, opens nothing.
4. The lists hold for the path that was asked for and for the file it leads to, and the black list for
   the folders above it too. The black list beats the white list; without one everything is white.
5. A folder answers with its index, or with a listing of what the rules above would serve.

Whatever is not served is not there: 404. Nothing blocks on a FIFO or a device.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from io import FileIO
from typing import NamedTuple, Protocol

from .containment import is_below, scan, status_at
from .filememory import FileMemory, Place, Representation, signature
from .filerules import FileRules, is_visible
from .limits import Limits
from .listing import Entry, listing_page
from .mediatypes import content_type
from .protocol.conditional import Validators, content_tag, file_outcome, precondition
from .protocol.encoding import is_compressible
from .protocol.errors import error_outcome
from .protocol.messages import FileBody, Outcome, RequestHead
from .protocol.target import split
from .protocol.writer import field_line
from .siblings import Siblings, is_fresh, preferred

DEFAULT_WHITE = tuple(
    "*." + extension
    for extension in (
        "css csv eot gif htm html ico jpeg jpg js json md otf pdf png svg tsv ttf txt woff woff2"
        " mjs webp avif wasm map webmanifest"
    ).split()
)
INDEX_NAMES = ("index.html", "index.htm")

_VARY = b"Vary: Accept-Encoding\r\n"
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_HASHED_SIZE = 1024 * 1024  # files up to here have the hash of their content as entity tag


class FileSettings(Protocol):
    """The settings that this file reads; see the server's documentation of them."""

    directory_listing: bool
    favicon_everywhere: bool
    favicon_fallback: str | None
    follow_symlinks: bool
    max_age: int
    base_path: str


class Mapping(NamedTuple):
    """A folder bound to the start of paths."""

    prefix: tuple[str, ...]
    folder: str


class SpecialFile(NamedTuple):
    """A single file with a path of its own, whatever the lists say."""

    path: str
    ctype: str | None


class FileRequest(NamedTuple):
    """What is asked of a file."""

    head: RequestHead
    allowed: frozenset[str]
    """The methods that handlers have for this path, for the Allow field of a 405."""


class FileServer:
    """Answers requests with files."""

    def __init__(self, settings: FileSettings, limits: Limits) -> None:
        self._settings = settings
        self.limits = limits
        self._memory = FileMemory()
        self._siblings = Siblings()
        self._mappings: tuple[Mapping, ...] = ()
        self._fallbacks: tuple[Mapping, ...] = ()
        self._special: dict[tuple[str, ...], SpecialFile] = {}
        self._rules = FileRules(settings)
        self.fallback_hook: Callable[[str], str | None] | None = None

    # any thread: what is served -------------------------------------------------------------------

    def bind(self, name: str, folder: str, *, fallback: bool = False) -> None:
        """Binds an absolute folder to all paths that start with `name`."""
        if not (name.startswith("/") and name.endswith("/")):
            raise ValueError(f"the name of a path starts and ends with a slash, {name!r} does not")
        mapping = Mapping(tuple(filter(None, name.split("/"))), folder)
        if fallback:
            self._fallbacks += (mapping,)
        else:
            self._mappings = (mapping, *self._mappings)
        self._memory.clear()

    def add_patterns(self, patterns: Iterable[str], *, black: bool) -> None:
        """Adds shell-style patterns for absolute paths to one of the lists."""
        self._rules.add_patterns(patterns, black=black)
        self._memory.clear()

    def add_special(self, path: str, file: SpecialFile) -> None:
        """Serves a file under a path of its own."""
        self._special[tuple(filter(None, path.split("/")))] = file

    def allow_link(self, place: str, source: str) -> None:
        """Lets a link at `place` lead to `source`, wherever that is: the server has made it."""
        self._rules.allow_link(place, source)

    def bindings(self) -> list[tuple[str, str]]:
        """Paths and what is served there, in the order in which they are looked at."""
        special = [("/" + "/".join(parts), file.path) for parts, file in self._special.items()]
        folders = [("/".join(("", *m.prefix, "")), m.folder) for m in self._mappings + self._fallbacks]
        return special + folders

    @property
    def any(self) -> bool:
        """Whether there is any file to look for."""
        return bool(
            self._mappings
            or self._fallbacks
            or self._special
            or self._settings.favicon_fallback
            or self.fallback_hook
        )

    # pool threads: answering ----------------------------------------------------------------------

    def answer(self, head: RequestHead, allowed: Iterable[str] = ()) -> Outcome | None:
        """The answer if the path is that of a file or folder, or if something stands in for it.

        None if there is nothing.
        """
        request = FileRequest(head, frozenset(allowed))
        try:
            return self._find(request, head.target.path) or self._stand_in(request)
        except OSError as error:
            return self._refusal(request, error)

    def _find(self, request: FileRequest, path: str) -> Outcome | None:
        segments = split(path)
        is_folder = segments[-1] == ""
        parts = tuple(filter(None, segments))
        special = self._special.get(parts)
        if special is not None and not is_folder:
            return self._send_explicit(request, special.path, special.ctype)
        for mapping in self._mappings + self._fallbacks:
            size = len(mapping.prefix)
            if parts[:size] == mapping.prefix and all(map(is_visible, parts[size:])):
                outcome = self._look_in(request, mapping.folder, parts[size:], is_folder)
                if outcome is not None:
                    return outcome
        return None

    def _look_in(
        self, request: FileRequest, folder: str, parts: tuple[str, ...], is_folder: bool
    ) -> Outcome | None:
        path = os.path.join(folder, *parts)
        try:
            status = os.stat(path)
            if self._rules.is_black(folder, path):
                return None
            if stat.S_ISDIR(status.st_mode):
                return self._send_folder(request, folder, path, is_folder)
            if stat.S_ISREG(status.st_mode) and not is_folder:
                return self._send_file(request, folder, path, status)
        except (OSError, ValueError) as error:
            outcome = self._refusal(request, error)
            return outcome if outcome is not None and self._may_be_known(folder, path) else None
        return None

    def _may_be_known(self, folder: str, path: str) -> bool:
        """Whether it would be served if only it could be read; what would not is not there."""
        real, is_folder = os.path.realpath(path), os.path.isdir(path)
        return not self._rules.is_black(folder, path) and self._rules.may_lead_to(
            folder, path, real, unlisted=is_folder
        )

    def _stand_in(self, request: FileRequest) -> Outcome | None:
        """A favicon for every path that has none, or what the fallback hook names."""
        settings = self._settings
        segments = request.head.target.segments or ()
        is_icon = segments[-1:] == ("favicon.ico",) and not request.head.target.is_folder
        if (
            is_icon
            and settings.favicon_fallback
            and (settings.favicon_everywhere or len(segments) == 1)
        ):
            icon = os.path.join(settings.base_path, settings.favicon_fallback)
            return self._send_explicit(request, icon, None)
        if self.fallback_hook is None or request.allowed:  # what would be a 405 is no 404
            return None
        named = self.fallback_hook(request.head.target.path)
        if named is None:
            return None
        outcome = self._find(request, named) if named.startswith("/") else None
        return outcome or self._send_named(request, os.path.join(settings.base_path, named))

    def _send_named(self, request: FileRequest, path: str) -> Outcome | None:
        """A file that the hook named by its place on disk; it must lie in a bound folder."""
        path = os.path.normpath(path)
        for mapping in self._mappings + self._fallbacks:
            if is_below(mapping.folder, path) and os.path.isfile(path):
                if self._rules.is_black(mapping.folder, path):
                    return None
                return self._send_file(request, mapping.folder, path, os.stat(path))
        return None

    def _refusal(self, request: FileRequest, error: Exception) -> Outcome | None:
        number = getattr(error, "errno", None)
        if number in (errno.EACCES, errno.EPERM):
            return error_outcome(403, "this may not be read", request.head)
        if number in _EXHAUSTED:
            busy = "the server cannot open more files now"
            return error_outcome(503, busy, request.head, b"Retry-After: 1\r\n")
        return None  # it is not there, or is no name that a file can have

    # pool threads: sending ------------------------------------------------------------------------

    def _send_explicit(self, request: FileRequest, path: str, ctype: str | None) -> Outcome | None:
        """A file that a setting names: no rule but that it is a regular file."""
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        return self._send(request, Place(None, path, ctype=ctype), status)

    def _send_file(
        self, request: FileRequest, folder: str, path: str, status: os.stat_result
    ) -> Outcome | None:
        """A file of a bound folder, or the compressed sibling that the client prefers."""
        siblings = self._siblings.of(path) if is_compressible(content_type(path)) else ()
        place = Place(folder, path, self._settings.follow_symlinks)
        if not siblings:
            return self._send(request, place, status)
        original = self._send(request, place, status, _VARY)
        if original is None or original.status not in (200, 304, 412):
            return original  # it may not be served, or in parts only
        head = request.head
        sibling = preferred(siblings, head.headers.get("accept-encoding"))
        if sibling is None or "range" in head.headers:
            return original
        place = place._replace(path=sibling.path, ctype=content_type(path), coding=sibling.coding)
        try:
            state = os.stat(sibling.path)
            if not is_fresh(state, status) or self._rules.is_black(folder, sibling.path):
                return original
            packed = self._send(request, place, state, _VARY)
        except OSError:  # gone, or not for us to read
            return original
        if packed is None:
            return original
        _close(original)
        return packed

    def _send(
        self, request: FileRequest, place: Place, status: os.stat_result, fields: bytes = b""
    ) -> Outcome | None:
        """The file at that place, if the rules allow it; `fields` are part of every answer."""
        known = self._memory.get(place, signature(status))
        trusted = known is not None and self._memory.trusts(place)
        if known is not None and known.content is not None and trusted:
            return self._respond(request, known, known.content, fields)
        path = place.path
        with ExitStack() as opened:
            try:
                file = opened.enter_context(open(path, "rb", buffering=0, opener=_open))
            except OSError:  # which is told of what may be served only
                if self._allows(place, os.path.realpath(path)):
                    raise
                return None
            now = os.fstat(file.fileno())
            if known is None or known.signature != signature(now):
                known, trusted = None, False
            if not trusted:
                real = os.path.realpath(path)
                if not _is_regular_file_at(now, place, real) or not self._allows(place, real):
                    return None
            if known is None:
                known = self._represent(file, now, place)
                self._memory.remember(place, known)
            elif not trusted:
                self._memory.trust(place)
            if known.content is not None:
                return self._respond(request, known, known.content, fields)
            outcome = self._respond(request, known, FileBody(file, 0, known.size), fields)
            if not isinstance(outcome.body, bytes):
                opened.pop_all()  # the file goes with the answer
            return outcome

    def _allows(self, place: Place, real: str) -> bool:
        if place.folder is None:
            return True
        # The white list has had its say about the original of a sibling.
        unlisted = place.coding is not None
        return self._rules.may_lead_to(place.folder, place.path, real, unlisted=unlisted)

    def _represent(self, file: FileIO, status: os.stat_result, place: Place) -> Representation:
        size = status.st_size
        content = _read(file.fileno(), size) if size <= _HASHED_SIZE else b""
        state = f'"{size:x}-{status.st_mtime_ns:x}"'
        tag = content_tag(content) if size <= _HASHED_SIZE else state
        small = size <= self.limits.small_file
        # A change in the future has its time changed to this moment (RFC 9110 section 8.8.2.1).
        validators = Validators(tag, min(status.st_mtime, time.time()))
        ctype = place.ctype or content_type(place.path)
        fields = validators.lines + field_line("Content-Type", ctype) + b"Accept-Ranges: bytes\r\n"
        if place.coding is not None:
            fields += field_line("Content-Encoding", place.coding)
        return Representation(
            signature(status),
            validators,
            ctype,
            place.coding,
            len(content) if small else size,
            content if small else None,
            fields,
        )

    def _respond(
        self,
        request: FileRequest,
        what: Representation,
        content: bytes | FileBody,
        fields: bytes,
    ) -> Outcome:
        """The answer; it holds the file only if it sends something of it."""
        head = request.head
        if head.method not in ("GET", "HEAD"):
            return not_allowed(head, request.allowed | {"GET", "HEAD"})
        if not head.conditional and "range" not in head.headers:  # nearly always
            fields += what.fields + b"Cache-Control: max-age=%d\r\n" % self._settings.max_age
            return Outcome(200, fields, content)
        failed = precondition(head, what.validators)
        fields += what.validators.fields(self._settings.max_age)
        if failed == 304:
            return Outcome(304, fields)
        if failed == 412:
            return error_outcome(412, "the file is another one by now", head)
        if what.coding is not None:
            fields += field_line("Content-Encoding", what.coding)
        return file_outcome(head, fields, what.ctype, content, what.validators, self.limits.ranges)

    def _send_folder(
        self, request: FileRequest, folder: str, path: str, is_folder: bool
    ) -> Outcome | None:
        real = os.path.realpath(path)
        if not self._rules.may_lead_to(folder, path, real, unlisted=True):
            return None
        if not is_folder:
            if request.head.method not in ("GET", "HEAD"):
                return not_allowed(request.head, request.allowed | {"GET", "HEAD"})
            return _add_slash(request.head)
        for name in INDEX_NAMES:
            index = os.path.join(path, name)
            try:
                status = os.stat(index)
            except OSError:  # it is not there, or a link that leads nowhere
                continue
            if stat.S_ISREG(status.st_mode) and not self._rules.is_black(folder, index):
                outcome = self._send_file(request, folder, index, status)
                if outcome is not None:
                    return outcome
        if not self._settings.directory_listing:
            return None
        return self._send_listing(request, folder, path, real)

    def _send_listing(self, request: FileRequest, folder: str, path: str, real: str) -> Outcome:
        head = request.head
        if head.method not in ("GET", "HEAD"):
            return not_allowed(head, request.allowed | {"GET", "HEAD"})
        shown = "/" + "".join(part + "/" for part in filter(None, split(head.target.path)))
        page = listing_page(shown, self._entries(folder, path, real), is_root=shown == "/")
        validators = Validators(content_tag(page))
        fields = validators.fields(self._settings.max_age)
        if precondition(head, validators) == 304:
            return Outcome(304, fields)
        return Outcome(200, fields + field_line("Content-Type", "text/html; charset=utf-8"), page)

    def _entries(self, folder: str, path: str, real: str) -> Iterator[Entry]:
        """What a listing shows: all that would be served."""
        with scan(folder, real) as found:
            for item in found:
                if not is_visible(item.name):
                    continue
                try:
                    status = item.stat()
                except OSError:  # a link to nowhere, or gone meanwhile
                    continue
                is_folder = stat.S_ISDIR(status.st_mode)
                if not is_folder and not stat.S_ISREG(status.st_mode):
                    continue
                place = os.path.join(path, item.name)
                if not self._rules.is_black(folder, place) and self._rules.may_lead_to(
                    folder, place, os.path.realpath(place), unlisted=is_folder
                ):
                    yield Entry(item.name, is_folder, status.st_size, status.st_mtime)


def not_allowed(head: RequestHead, allowed: Iterable[str]) -> Outcome:
    """405: the path is known, but not with this method (RFC 9110 section 15.5.6)."""
    methods = ", ".join(sorted(allowed))
    return error_outcome(405, f"only {methods} can be used here", head, field_line("Allow", methods))


def _add_slash(head: RequestHead) -> Outcome:
    """301 to the folder's own path, on this host whatever slashes the path starts with."""
    target = head.target
    place = "/" + target.path.lstrip("/") + "/" + (f"?{target.query}" if target.query else "")
    return error_outcome(301, f"this folder is at {place}", head, field_line("Location", place))


def _is_regular_file_at(opened: os.stat_result, place: Place, real: str) -> bool:
    """Whether what was opened is a regular file, and the one that is at the resolved path."""
    named = os.lstat(real) if place.folder is None else status_at(place.folder, real)
    return stat.S_ISREG(opened.st_mode) and os.path.samestat(opened, named)


def _read(descriptor: int, size: int) -> bytes:
    """At most `size` bytes from the start; fewer if the file has become shorter."""
    pieces, offset = [], 0
    while offset < size and (piece := os.pread(descriptor, size - offset, offset)):
        pieces.append(piece)
        offset += len(piece)
    return b"".join(pieces)


def _close(outcome: Outcome) -> None:
    if isinstance(outcome.body, FileBody):
        outcome.body.file.close()


def _open(path: str, _flags: int) -> int:
    return os.open(path, _OPEN_FLAGS)
