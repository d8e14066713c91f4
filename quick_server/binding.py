"""The methods with which callers say which files are served.

Called from any thread; what they change counts from the next request on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from .mirror import Mirrors
from .static import DEFAULT_WHITE, FileServer, SpecialFile

PACKAGE_FOLDER = os.path.dirname(os.path.abspath(__file__))


class FileBinding:
    """Paths to files."""

    base_path: str
    """Where relative folders and files are looked for."""
    favicon_fallback: str | None
    """A file that stands in for every favicon that does not exist."""
    _files: FileServer
    _mirrors: Mirrors

    def bind_path(self, name: str, folder: str) -> None:
        """Serves `folder` (relative to `base_path`) for paths that start with `name`.

        It is looked in before the folders that were bound earlier. ValueError unless `name` starts
        and ends with a slash.
        """
        self._files.bind(name, self._absolute(folder))

    def bind_path_fallback(self, name: str, folder: str) -> None:
        """Like `bind_path`, but looked in after all others."""
        self._files.bind(name, self._absolute(folder), fallback=True)

    def add_file_patterns(self, patterns: Iterable[str], blacklist: bool) -> None:
        """Adds shell-style patterns such as `*.key` to the black or to the white list.

        They are compared with absolute paths. Without a white list every file is served; the black
        list beats the white list.
        """
        self._files.add_patterns(patterns, black=blacklist)

    def add_default_white_list(self) -> None:
        """Restricts files to the types that web pages are made of."""
        self._files.add_patterns(DEFAULT_WHITE, black=False)

    def set_file_fallback_hook(self, hook: Callable[[str], str | None] | None) -> None:
        """Has `hook(path)` name a file where the answer would be 404; None for no such file.

        What it returns is a path as in a request (`/index.html`), or that of a file in one of the
        bound folders. Single-page applications answer every path with their index that way.
        """
        self._files.fallback_hook = hook

    def link_empty_favicon_fallback(self) -> None:
        """Answers requests for favicons that do not exist with an empty icon."""
        self.favicon_fallback = os.path.join(PACKAGE_FOLDER, "assets", "empty.ico")

    def add_special_file(
        self, mask: str, path: str, from_quick_server: bool, ctype: str | None = None
    ) -> None:
        """Serves one file at the path `mask`, whatever the lists say.

        `path` is relative to `base_path`, or to the package itself with `from_quick_server`; `ctype`
        replaces the Content-Type that its name implies.
        """
        place = self._source(path, from_quick_server)
        self._files.add_special(mask, SpecialFile(place, ctype))

    def mirror_file(self, path_to: str, path_from: str, from_quick_server: bool = True) -> None:
        """Makes a file appear at `path_to`.

        As a link or, where that is impossible, as a copy that follows the changes of the original
        while the server runs.
        """
        place, source = self._absolute(path_to), self._source(path_from, from_quick_server)
        self._mirrors.add(place, source)
        self._files.allow_link(place, source)

    def link_worker_js(self, mask: str) -> None:
        """Serves the browser's side of the workers, `worker.js`, at the path `mask`.

        For a mask that ends with `.js` its twin as a module is served beside it, as `.mjs`.
        """
        self.add_special_file(mask, "js/worker.js", True, "text/javascript; charset=utf-8")
        if mask.endswith(".js"):
            twin = mask.removesuffix(".js") + ".mjs"
            self.add_special_file(twin, "js/worker.mjs", True, "text/javascript; charset=utf-8")

    def mirror_worker_js(self, path: str) -> None:
        """Makes `worker.js` appear as the file `path`, for tools that bundle what a page needs."""
        self.mirror_file(path, "js/worker.js")

    def link_legacy_worker_js(self, mask: str) -> None:
        """The same as `link_worker_js`, under the name that older scripts use."""
        self.link_worker_js(mask)

    def mirror_legacy_worker_js(self, path: str) -> None:
        """The same as `mirror_worker_js`, under the name that older scripts use."""
        self.mirror_worker_js(path)

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.base_path, path))

    def _source(self, path: str, from_quick_server: bool) -> str:
        return os.path.join(PACKAGE_FOLDER, path) if from_quick_server else self._absolute(path)
