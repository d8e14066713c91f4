"""The page that lists a folder. Pure."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from .log import size_string, timestamp

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
  h1 {{ font-size: 1.3rem; overflow-wrap: anywhere; }}
  table {{ width: 100%; border-collapse: collapse; }}
  th {{ text-align: left; font-weight: 600; }}
  td, th {{ padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #8883; overflow-wrap: anywhere; }}
  .size, .date {{ white-space: nowrap; width: 1%; font-variant-numeric: tabular-nums; }}
  .size {{ text-align: right; }}
  a {{ text-decoration: none; }}
  a:hover {{ text-decoration: underline; }}
</style>
</head>
<body>
<h1>{title}</h1>
<table>
<thead><tr><th>Name</th><th class="size">Size</th><th class="date">Modified</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""
_ROW = (
    '<tr><td><a href="{link}">{name}</a></td>'
    '<td class="size">{size}</td><td class="date">{date}</td></tr>'
)


class Entry(NamedTuple):
    """One row of a listing."""

    name: str
    is_folder: bool
    size: int
    modified: float


def listing_page(path: str, entries: Iterable[Entry], *, is_root: bool) -> bytes:
    """A page for the folder at that (decoded) path: folders first, then files, each by name."""
    rows = []
    if not is_root:
        rows.append(_ROW.format(link="../", name="../", size="", date=""))
    for entry in sorted(entries, key=lambda entry: (not entry.is_folder, entry.name)):
        slash = "/" if entry.is_folder else ""
        rows.append(
            _ROW.format(
                link=quote(os.fsencode(entry.name), safe="") + slash,
                name=html.escape(entry.name) + slash,
                size="" if entry.is_folder else size_string(entry.size),
                date=timestamp(entry.modified),
            )
        )
    page = _PAGE.format(title=html.escape(path), rows="\n".join(rows))
    return page.encode("utf-8", "replace")
