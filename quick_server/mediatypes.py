"""File name to media type. A table of its own, so that no machine's settings change an answer."""

from __future__ import annotations

import functools
import os

_TYPES = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "css": "text/css",
    "csv": "text/csv",
    "eot": "application/vnd.ms-fontobject",
    "gif": "image/gif",
    "gz": "application/gzip",
    "htm": "text/html",
    "html": "text/html",
    "ico": "image/x-icon",
    "ipynb": "application/json",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "log": "text/plain",
    "map": "application/json",
    "md": "text/markdown",
    "mjs": "text/javascript",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "otf": "font/otf",
    "parquet": "application/vnd.apache.parquet",
    "pdf": "application/pdf",
    "png": "image/png",
    "py": "text/x-python",
    "rst": "text/plain",
    "svg": "image/svg+xml",
    "toml": "text/plain",
    "tsv": "text/tab-separated-values",
    "ttf": "font/ttf",
    "txt": "text/plain",
    "wasm": "application/wasm",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "xml": "application/xml",
    "yaml": "text/plain",
    "yml": "text/plain",
    "zip": "application/zip",
}


_LONGEST = 16  # characters of an extension that is looked up


def content_type(name: str) -> str:
    """The Content-Type for a file of that name; text is said to be UTF-8.

    >>> content_type("index.HTML")
    'text/html; charset=utf-8'
    """
    extension = os.path.splitext(name)[1][1:].lower()
    return _type_of(extension) if len(extension) <= _LONGEST else "application/octet-stream"


@functools.lru_cache(maxsize=256)
def _type_of(extension: str) -> str:
    kind = _TYPES.get(extension) or _other_type(extension)
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _other_type(extension: str) -> str:
    if not extension:
        return "application/octet-stream"
    import mimetypes  # only for what is rare: its import costs a part of the start

    kind, encoding = mimetypes.MimeTypes().guess_type("x." + extension, strict=False)
    return kind if kind is not None and encoding is None else "application/octet-stream"
