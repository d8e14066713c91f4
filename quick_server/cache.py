"""Results of workers, kept in the user's QuickCache: if it fails, that costs time and never an answer.

Pool and worker threads, never the loop: any call here may wait for a disk. Owns how results get into
the files of the cache and out of them again; the cache object is the user's, with its folder, its
sections and its quota. Nothing that the server calls here raises, holds a lock while a result is
computed or a file is touched, or gives back another text than the one that was stored.

Facts (quick_cache 0.3.1): what `get_hnd` returns is locked for as long as somebody is in it, stays in
memory for ever, fails when the RAM quota is exceeded and when a warning names a number, and cannot tell
`{"n": 1}` from `{"n": "1"}`, for which it raises. It writes files in place, so that others read halves;
half a file of the method "string" passes for a whole one; and a file that is there is never replaced,
however damaged. The method "json" cannot write at all.

Decision: no handles. `get_file` says where a result belongs and `methods` how it is written, so what
lists, cleans and counts the files goes on working; whole files are put in place at once, and a result
carries a checksum. Two ids that fall on one file take turns in it.

Trade-off: nothing is kept in RAM here. The kernel keeps files that are read often.
"""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

from .log import escape, log_exception, log_server

CacheIdObj: TypeAlias = dict[str, Any]
"""What identifies a result: values that JSON knows, under names."""

_MIB = 1024 * 1024
_QUIET = 10.0  # seconds: one line for each kind of trouble
_TRUST = 60.0  # seconds that a measured size of the folder is good for; other processes write, too
_STALE = 3600.0  # seconds after which a file that is still being written has lost its writer
_KEPT = 0.9  # of the quota, when room is made: so that not each result has to make some
_ATTEMPTS = 5  # a folder may be cleaned away between its making and its use
_SEAL_LENGTH = 32
_LONGEST_REASON = 200  # characters: decoders quote what they decode


class CacheSettings(Protocol):
    """The setting that this file reads, each time anew."""

    cache: Any


class CachePlan(NamedTuple):
    """How the results of a worker are cached."""

    cache_id: Callable[[Any], CacheIdObj | None] | None = None
    """From a job's arguments to what identifies its result; None: do not cache."""
    method: str | None = "string"
    """How quick_cache writes it: "string", "json" or "pickle"; None: as the cache does by default."""
    section: str | None = "www"
    """The folder within the cache."""


class CacheKey(NamedTuple):
    """What identifies a result. Jobs with equal keys have the same one."""

    section: str | None
    method: str | None
    id: str
    """The id as canonical JSON."""


class ResultCache:
    """Loads and stores the JSON texts of results. Many threads may call every method at once."""

    def __init__(self, settings: CacheSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._throttle = _Throttle(clock)
        self._adopted: Any = None
        self._space = _Space(clock)

    def key(self, plan: CachePlan, args: Any) -> CacheKey | None:
        """The key of the job with these arguments, or None: it is not to be cached."""
        if plan.cache_id is None:
            return None
        try:
            found = plan.cache_id(args)
            if found is None:
                return None
            if not isinstance(found, dict):
                raise TypeError(f"cache_id is to return a dict or None, not {type(found).__name__}")
            check_section(plan.section)
            return CacheKey(plan.section, plan.method, _canonical(found))
        except Exception as error:
            self._complain("a result is not cached because it has no id", error)
            return None

    def load(self, key: CacheKey) -> str | None:
        """The text that was stored, or None. What is on disk but damaged, or another's, is not it."""
        try:
            cache = self._cache()
            text = None if cache is None else self._read(cache, key)
        except Exception as error:
            self._complain("the cache could not be read", error)
            return None
        if cache is not None and getattr(cache, "verbose", False):
            self._warn(cache, "cache {0} for {1}", "miss" if text is None else "hit", escape(key.id))
        return text

    def store(self, key: CacheKey, text: str, elapsed: float | None = None) -> None:
        """Keeps the JSON text of a result, if the cache can. `elapsed`: seconds it took to compute."""
        try:
            cache = self._cache()
            if cache is not None:
                self._write(cache, key, text, elapsed)
        except Exception as error:
            self._complain("the cache could not be written", error)

    def adopt(self, cache: Any) -> None:
        """Mends what users may call on a QuickCache themselves; else that is done at its first use."""
        try:
            _Mended(cache, self._complain)
        except Exception as error:
            self._complain("the cache is no QuickCache", error)
        self._space = _Space(self._clock)
        self._adopted = cache

    def _cache(self) -> Any:
        cache = self._settings.cache
        if cache is not None and cache is not self._adopted:
            self.adopt(cache)
        return cache

    def _read(self, cache: Any, key: CacheKey) -> str | None:
        started = self._clock()
        path = cache.get_file(json.loads(key.id), key.section)
        _, decode = _codec(cache, key.method)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            stored_id, elapsed, sealed = decode(content)
            found, text = _canonical(stored_id), _unsealed(sealed)
        except Exception as error:  # whatever a decoder makes of garbage
            why = f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
            self._say("damaged", f"the cache file {path} cannot be used ({why})")
            return None
        if found != key.id:
            self._say("shared", f"two ids fall on the cache file {path}, which has the other's result")
            return None
        self._compare(cache, key, self._clock() - started, elapsed)
        return text

    def _compare(self, cache: Any, key: CacheKey, took: float, elapsed: Any) -> None:
        """Warns of a cache that does not pay, as quick_cache does."""
        pays = not isinstance(elapsed, int | float) or took <= elapsed
        if not pays and self._throttle.admit("slow") is not None:
            what = "reading from the cache takes longer than computing {0}: {1}s > {2}s"
            self._warn(cache, what, escape(key.id), took, elapsed)

    def _write(self, cache: Any, key: CacheKey, text: str, elapsed: float | None) -> None:
        identity = json.loads(key.id)
        path = cache.get_file(identity, key.section)
        encode, _ = _codec(cache, key.method)
        content = encode(identity, elapsed, _seal(text) + text)
        if isinstance(content, str):  # the method "json" leaves that open
            content = content.encode()
        quota, warn = cache._quota, partial(self._warn, cache)
        if quota is None or self._space.take(cache._full_base, len(content), quota * _MIB, warn):
            _put(path, content)

    def _warn(self, cache: Any, text: str, *args: object) -> None:
        """Tells the callback for warnings that the user gave to the cache."""
        try:
            cache._warnings(text, *args)
        except Exception as error:
            self._complain("the cache's function for warnings failed", error)

    def _complain(self, what: str, error: Exception) -> None:
        """Logs an exception, unless its like has just been; an OSError says it all in one line."""
        if isinstance(error, OSError):
            self._say((what, error.errno), f"{what}: {error}")
            return
        skipped = self._throttle.admit((what, type(error).__name__))
        if skipped is not None:
            log_exception(what + _others(skipped))

    def _say(self, kind: object, line: str) -> None:
        skipped = self._throttle.admit(kind)
        if skipped is not None:
            log_server(escape(line) + _others(skipped))


class _Throttle:
    """Admits one of a kind in a while, and counts the others."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[object, tuple[float, int]] = {}  # when one was admitted, and refused since
        self._lock = threading.Lock()

    def admit(self, kind: object) -> int | None:
        """How many were refused before this one; None: it is refused as well."""
        now = self._clock()
        with self._lock:
            last, refused = self._last.get(kind, (-math.inf, 0))
            if now - last < _QUIET:
                self._last[kind] = last, refused + 1
                return None
            self._last[kind] = now, 0
            return refused


def _others(skipped: int) -> str:
    return f" (and {skipped} more times before)" if skipped else ""


# ---- what is in a file -------------------------------------------------------------------------------


def _canonical(identity: Any) -> str:
    """The one JSON text of an id.

    Raises TypeError and ValueError for what JSON does not know: what stands for it might stand for
    another value, too, and bring the result of that one.
    """
    return json.dumps(identity, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _codec(cache: Any, method: str | None) -> Any:
    """The pair of functions that write and read a file."""
    from quick_cache import methods  # type: ignore[import-untyped] # it has none

    if method is None:
        return cache._method
    if method not in methods:
        raise ValueError(f"unknown cache method {method!r}")
    return methods[method]


def _seal(text: str) -> str:
    """The checksum of a text as white space, which before JSON means nothing to other readers."""
    checksum = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    return f"{checksum:0{_SEAL_LENGTH}b}".translate({ord("0"): " ", ord("1"): "\t"})


def _unsealed(sealed: Any) -> str:
    """The text behind its seal. Raises ValueError if it is not as it was stored.

    A text without a seal is of another writer, and has to be whole JSON. Of a number nobody can tell.
    """
    if not isinstance(sealed, str):
        raise ValueError("it holds no text")
    if sealed.startswith((" ", "\t")):
        seal, text = sealed[:_SEAL_LENGTH], sealed[_SEAL_LENGTH:]
        if seal != _seal(text):
            raise ValueError("its checksum is wrong")
        return text
    if not isinstance(json.loads(sealed), dict | list | str | bool | None):
        raise ValueError("it may be cut off")
    return sealed


def _put(path: str, content: bytes) -> None:
    """Puts a whole file in place of what is there: whoever reads sees the old one or the new one."""
    part = f"{path}.{os.urandom(6).hex()}.part"
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(part, "xb") as file:
                file.write(content)
            os.replace(part, path)
        except BaseException as error:
            with suppress(OSError):
                os.remove(part)
            if not isinstance(error, FileNotFoundError | FileExistsError) or attempt == _ATTEMPTS:
                raise  # those two: the folder went, or was there when it was to be made and then went
        else:
            return


class _Space:
    """What the files of a cache take on disk: measured now and then, and made less where needed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._used = 0.0  # bytes
        self._measured = -math.inf

    def take(self, base: str, size: int, quota: float, warn: Callable[..., None]) -> bool:
        """Whether there is room for `size` more bytes; files that were not used for long make it."""
        if size > quota:
            warn("single file exceeds quota: {0}MB > {1}MB", size / _MIB, quota / _MIB)
            return False
        now = self._clock()
        with self._lock:
            if now - self._measured < _TRUST and self._used + size <= quota:
                self._used += size
                return True
        used = self._make_room(base, size, quota, warn)
        with self._lock:
            self._used, self._measured = used + size, now
        fits = used + size <= quota
        if not fits:
            wanted = (used + size) / _MIB
            warn("cannot free enough space for quota ({0}MB > {1}MB)!", wanted, quota / _MIB)
        return fits

    def _make_room(self, base: str, size: int, quota: float, warn: Callable[..., None]) -> float:
        """The bytes in use, after files have been removed if they were too many."""
        files = sorted(_files(base))
        used = sum(status.st_size for _, _, status in files)
        if used + size <= quota:
            return used
        for _, path, status in files:
            if used + size <= max(quota * _KEPT, size):
                break
            warn("removing old cache file: {0}", path)
            try:
                os.remove(path)
            except FileNotFoundError:
                pass  # somebody else makes room as well
            except OSError:
                continue
            used -= status.st_size
        return used


def _files(base: str) -> Iterator[tuple[float, str, os.stat_result]]:
    """The files of a cache with the moment of their last use. There may be others, which are let be."""
    import glob

    name = "[0-9a-f]" * 2, "[0-9a-f]" * 6 + ".tmp*"
    for path in glob.iglob(os.path.join(glob.escape(base), "*", *name)):
        with suppress(OSError):  # it is gone
            status = os.stat(path)
            if path.endswith(".tmp"):
                yield status.st_atime, path, status
            elif path.endswith(".part") and time.time() - status.st_mtime > _STALE:
                yield 0.0, path, status


# ---- what users call themselves ---------------------------------------------------------------------


class _Mended:
    """Methods of a QuickCache that fail, done anew and set on that one object, not on its class.

    Users clean the cache and list its sections from the console, and take handles in functions of their
    own. The package calls `remove_all_locks` when the program ends. Any thread.
    """

    NAMES = ("enforce_ram_quota", "remove_all_locks", "clean_cache", "list_sections", "get_hnd")

    def __init__(self, cache: Any, complain: Callable[[str, Exception], None]) -> None:
        self._cache = cache
        self._complain = complain
        for name in self.NAMES:
            original = getattr(type(cache), name, None)
            if name not in vars(cache) and getattr(original, "__module__", None) == "quick_cache":
                setattr(cache, name, getattr(self, name))
        if getattr(cache, "_ram_quota", 0.0) is None:
            cache._ram_quota = math.inf  # it is compared with numbers

    def enforce_ram_quota(self) -> None:
        """The original sorts a view of a dict, which may change meanwhile."""
        quota = self._cache._ram_quota
        handles = self._oldest_first()
        size = sum(handle.get_size() for _, handle in handles)
        for _, handle in handles:
            if size <= quota:
                break
            before = handle.get_size()
            self._to_disk(handle)
            size -= before - handle.get_size()

    def remove_all_locks(self) -> None:
        """The original stops at the first one that cannot be written to disk."""
        for path, handle in self._oldest_first():
            self._cache._locks.pop(path, None)
            self._to_disk(handle)

    def _oldest_first(self) -> list[tuple[str, Any]]:
        return sorted(self._cache._locks.copy().items(), key=lambda item: item[1].get_last_access())

    def _to_disk(self, handle: Any) -> None:
        try:
            handle.force_to_disk()
        except Exception as error:
            self._complain("a result could not be moved from memory to the cache's folder", error)

    def clean_cache(self, section: str | None = None) -> None:
        """The original fails if somebody writes or cleans meanwhile; ".." would clean all around it."""
        check_section(section)
        path = self._cache._full_base
        if section is not None:
            path = os.path.join(path, section)
        self._cache.remove_all_locks()
        import shutil  # people clean a cache now and then

        shutil.rmtree(path, ignore_errors=True)  # all that was there, as far as may be
        try:
            shutil.rmtree(path)  # says why something is left
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise

    def list_sections(self) -> list[str]:
        """The original fails if the folder goes meanwhile, or is none."""
        try:
            return list(type(self._cache).list_sections(self._cache))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def get_hnd(self, *args: Any, **kwargs: Any) -> Any:
        """The original describes an id, for warnings, by means of a class that Python has no more."""
        handle = type(self._cache).get_hnd(self._cache, *args, **kwargs)
        handle._cache_id_desc = partial(_description, handle)
        handle._ram_quota = self._cache._ram_quota
        return handle


def _description(handle: Any) -> str:
    values = (
        f"{name}=[..{len(value)}]" if isinstance(value, dict | list | tuple) else f"{name}={value}"
        for name, value in handle._cache_id_obj.items()
    )
    return f"[{', '.join(values)}]"


def check_section(section: str | None) -> None:
    """Raises ValueError if a section is no name of a folder within the cache's."""
    if section is not None and (section in ("", ".", "..") or "/" in section or "\0" in section):
        raise ValueError(f"invalid section {section!r}")
