"""`quick-server fuzz`, and the page about fuzzing: what it shows is what happens."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quick_server import create_server
from quick_server.__main__ import main
from quick_server.testing import fuzz_server
from tests.integration.scripts import ROOT, environment
from tests.integration.snippets import python_blocks

PAGE = ROOT / "docs" / "fuzzing.md"
EXAMPLE = ROOT / "examples" / "fuzzing" / "server.py"

Done = subprocess.CompletedProcess[str]
Fuzz = Callable[..., Done]


@pytest.fixture
def fuzz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fuzz:
    """`fuzz(*arguments, script=...)` runs the command in a folder with that script."""

    def run(*arguments: str, script: str = "") -> Done:
        (tmp_path / "server.py").write_text(script)
        monkeypatch.chdir(tmp_path)
        try:
            code = main(["fuzz", *arguments])
        except SystemExit as leaving:  # argparse
            code = int(leaving.code or 0)
        return Done(arguments, code, *capsys.readouterr())

    return run


@pytest.fixture
def fuzz_process(tmp_path: Path) -> Fuzz:
    """The same in a process of its own, for scripts that leave something behind."""

    def run(*arguments: str, script: str = "") -> Done:
        (tmp_path / "server.py").write_text(script)
        command = [sys.executable, "-W", "error", "-m", "quick_server", "fuzz", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=50
        )

    return run


def normalised(report: str) -> str:
    """A report without what differs from machine to machine and from Python to Python."""
    report = re.sub(r"\d+ requests in [\d.]+ s", "N requests in N s", report)
    return re.sub(r"(?m)^ *[~^]+\n", "", report).strip()


def test_the_example_of_the_page(fuzz_process: Fuzz) -> None:
    page = PAGE.read_text("utf-8")
    [shown] = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    [code] = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    assert code.replace("server = ", "").split("\n\n\n")[1] in EXAMPLE.read_text("utf-8")
    done = fuzz_process("server.py", script=EXAMPLE.read_text("utf-8"))
    assert done.returncode == 1
    assert normalised(done.stdout) == normalised(shown)
    assert done.stderr == ""


def test_the_test_of_the_page_passes() -> None:
    [block] = [block for block in python_blocks(PAGE) if "def test_fuzz" in block.text]
    names: dict[str, Any] = {"__name__": "test_page"}
    block.run(names)
    names["test_fuzz"]()


SCRIPT = """\
import sys
from quick_server import create_server, msg, setup_restart

setup_restart(reload=True)
assert __name__ == "__main__"
print("arguments", sys.argv)
server = create_server(("0.0.0.0", {port}))
assert server.server_address[0] == "127.0.0.1"


@server.json_get("/length", 0)
def length(req, args):
    print("called")
    return {expression}


{more}
server.serve_forever()
server.server_close()
print("the end")
"""


def script(expression: str = "1", port: int = 80, more: str = "") -> str:
    return SCRIPT.format(expression=expression, port=port, more=more)


def test_a_script_is_run_as_it_is(fuzz: Fuzz) -> None:
    done = fuzz("--examples", "5", "server.py", "--port", "1", script=script())
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"nothing found: \d+ requests in [\d.]+ s \(seed 0\)\n", done.stdout)
    assert "arguments ['server.py', '--port', '1']" in done.stderr
    assert done.stderr.endswith("the end\n")


IN_THREADS = """
import threading
from quick_server import create_server

servers = [create_server(("127.0.0.1", 0)) for _ in range(2)]
for number, server in enumerate(servers):
    server.text_get(f"/{number}")(lambda req, args: 1 / 0)
with create_server(("127.0.0.1", 0)).running():
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_several_servers_take_turns(fuzz: Fuzz) -> None:
    done = fuzz("--examples", "5", "server.py", script=IN_THREADS)
    assert done.returncode == 1
    assert sorted(re.findall(r"1\. GET (\S+): 500, ZeroDivisionError", done.stdout)) == ["/0", "/1"]


def test_what_runs_in_the_background_is_the_scripts(fuzz: Fuzz) -> None:
    code = """
from urllib.request import urlopen
from quick_server import create_server

server = create_server(("127.0.0.1", 0))
server.text_get("/x", 0)(lambda req, args: "served")
with server.running() as url:
    print(urlopen(f"{url}/x").read())
"""
    done = fuzz("--examples", "5", "server.py", script=code)
    assert (done.returncode, done.stdout) == (2, "")
    assert "served" in done.stderr
    assert "the script has not called serve_forever()" in done.stderr


def test_commands_name_the_port_of_the_script(fuzz: Fuzz) -> None:
    done = fuzz("--examples", "5", "server.py", script=script("1 / len(args['query'])", 8123))
    assert done.returncode == 1
    assert "\n    curl -i http://localhost:8123/length\n" in done.stdout


def test_what_hangs_does_not_keep_it(fuzz_process: Fuzz) -> None:
    more = """
import threading, time
@server.json_get("/hang", 0)
def hang(req, args):
    threading.Thread(target=time.sleep, args=(1000,)).start()
    time.sleep(1000)
"""
    options = ["--examples", "3", "--hang", "0.5", "--slow", "0.4"]
    done = fuzz_process(*options, "server.py", script=script(more=more))
    assert done.returncode == 1
    assert "1. GET /hang: no answer, nothing for 0.5 s" in done.stdout


def test_patterns(fuzz: Fuzz) -> None:
    arguments = ["--examples", "3", "--skip", "GET /len*", "--no-leaks", "server.py"]
    more = 'server.add_json_post_mask("/other", lambda req, args: 1)'
    done = fuzz(*arguments, script=script(more=more))
    assert done.returncode == 0
    assert "called" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (["server.py"], "pass", "the script has not called serve_forever()"),
        (["server.py"], "import sys; sys.exit('no data')", "the script has ended: no data"),
        (["server.py"], "1 / 0", "ZeroDivisionError: division by zero"),
        (["--only", "/nowhere", "server.py"], script(), "nothing to ask for"),
        (["nowhere.py"], "", "there is no script 'nowhere.py'"),
        ([], "", "the following arguments are required: script"),
        (["--examples", "0", "server.py"], "", "invalid positive number value: '0'"),
        (["--slow", "-1", "server.py"], "", "invalid positive number value: '-1'"),
    ],
)  # fmt: skip
def test_usage(fuzz: Fuzz, arguments: list[str], text: str, said: str) -> None:
    done = fuzz(*arguments, script=text)
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr


def test_help(fuzz: Fuzz) -> None:
    done = fuzz("--help")
    assert done.returncode == 0
    for option in ("--only", "--skip", "--examples", "--seconds", "--slow", "--hang", "--seed"):
        assert option in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 104


WITHOUT = "import sys; sys.modules['hypothesis'] = None\n"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import quick_server.testing", 1),
        ("from quick_server.__main__ import main; sys.exit(main(['fuzz', 'server.py']))", 2),
    ],
)
def test_without_hypothesis(code: str, exit_code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == exit_code
    assert "quick_server.testing needs Hypothesis: pip install 'quick_server[testing]'" in done.stderr
    assert done.stdout == ""


def test_the_server_itself_needs_no_hypothesis() -> None:
    code = WITHOUT + "import quick_server.__main__, quick_server.testclient"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0


def test_the_command_is_installed() -> None:
    command = shutil.which("quick-server", path=str(Path(sys.executable).parent))
    assert command is not None
    done = subprocess.run([command, "--help"], env=environment(), capture_output=True, text=True)
    assert "quick-server fuzz script.py" in done.stdout


def test_a_regular_expression_that_backtracks_for_ever(fuzz_process: Fuzz) -> None:
    """It keeps the interpreter's lock: no thread of the process could tell of it."""
    expression = '__import__("re").match("(a*)*$", "a" * 40 + "b" * len(args["query"])) is None'
    done = fuzz_process("--hang", "0.5", "server.py", script=script(expression, port=8123))
    assert done.returncode == 1
    said, command, *frames = [line.strip() for line in done.stdout.splitlines() if line]
    assert said == "no answer, and nothing else in this process could run for 2 s:"
    assert command.startswith("curl -i 'http://localhost:8123/length?")
    assert "in match" in frames[0]
    assert re.fullmatch(r'File "server.py", line \d+ in length', frames[-1])


def test_a_crash(fuzz_process: Fuzz) -> None:
    expression = '__import__("os")._exit(3) if "mode" in args["query"] else 1'
    done = fuzz_process("server.py", script=script(expression, port=8123))
    assert done.returncode == 3
    assert done.stdout.splitlines() == [
        "the process has ended, and this is what was sent last:",
        "",
        "    curl -i 'http://localhost:8123/length?mode'",
        "",
    ]


def test_commands_are_announced() -> None:
    announced: list[str] = []
    server = create_server(("127.0.0.1", 0))
    server.add_text_get_mask("/one", lambda _req, _args: "1")
    report = fuzz_server(server, examples=5, url="http://localhost:8123", announce=announced.append)
    assert len(announced) == report.requests
    assert announced[0] == "curl -i http://localhost:8123/one"


@pytest.mark.parametrize(
    ("code", "last"),
    [
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("\n1 / 0\n", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_script_that_fails_is_told_as_python_tells_it(fuzz: Fuzz, code: str, last: str) -> None:
    done = fuzz("server.py", script=code)
    assert done.returncode == 2
    assert done.stderr.endswith(f"\n{last}\nquick-server fuzz: the script has failed\n")
    files = re.findall(r'File "(.+?)"', done.stderr)
    assert {Path(file).name for file in files} == {"server.py"}
