"""The files of the browser's side of the workers, looked at without a browser."""

from __future__ import annotations

import re
from pathlib import Path

import quick_server

JS = Path(quick_server.__file__).parent / "js"
EXPORTS = "\nexport const { Worker, WorkerError } = globalThis.quick_server;\n"


def test_the_module_is_the_script_with_exports() -> None:
    """After a change of worker.js: worker.mjs is its text, and then EXPORTS."""
    assert (JS / "worker.mjs").read_text("utf-8") == (JS / "worker.js").read_text("utf-8") + EXPORTS


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
