"""The files of the browser's side of the workers, looked at without a browser."""

from __future__ import annotations

import re
from pathlib import Path

import quick_server

JS = Path(quick_server.__file__).parent / "js"


def test_the_module_exports_what_the_script_sets() -> None:
    """Both lists of names are the same; that it takes the script is seen by the browser's tests."""
    script, module = ((JS / name).read_text("utf-8") for name in ("worker.js", "worker.mjs"))
    names = r"\{ (Worker, WorkerError) \}"
    exported = re.search(rf"export const {names} = globalThis\.quick_server;", module)
    assert exported is not None
    assert re.search(rf"scope\.quick_server = Object\.assign\(.*, {names}\);", script) is not None


def test_older_builds_can_read_the_script() -> None:
    """Nothing in it came after ES2017. What no browser would read is seen by the browser's tests."""
    script = re.sub(r"/\*[\s\S]*?\*/|//[^\n]*", "", (JS / "worker.js").read_text("utf-8"))
    newer = r"\?\.|\?\?|\*\*|\.\.\.|\bcatch \{|\bfor await\b|\bimport\b|\bexport\b|\d_\d|\bthis\.#|^ *#"
    assert re.findall(newer, script, re.MULTILINE) == []


def test_the_types_know_what_is_public() -> None:
    script, types = ((JS / name).read_text("utf-8") for name in ("worker.js", "worker.d.ts"))
    worker = script[script.index("  class Worker {") : script.index("  // ---- leaving the page")]
    members = set(re.findall(r"^    (?:get |set )?([a-z]\w*)\(", worker, re.MULTILINE)) - {
        "constructor"
    }
    assert members == {"active", "status", "infoTitle", "post", "run", "cancel"}
    declared = types[types.index("  class Worker {") : types.index("  /** `<quick-progress")]
    for member in members:
        assert re.search(rf"\b{member}\b[(<:]", declared), member
