"""What the log says, where it says it, and that its end disturbs nobody."""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quick_server
from quick_server import debug, get_time, msg, set_log_file
from quick_server.log import (
    LogFile,
    elapsed_string,
    escape,
    log_exception,
    log_server,
    quote,
    size_string,
    timestamp,
    write_line,
)
from tests.harness import PATIENCE


def line_here() -> int:
    """The number of the line that calls this."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


@pytest.fixture(autouse=True)
def _log_goes_back_to_stderr() -> Iterator[None]:
    yield
    set_log_file(None)


# ---- msg --------------------------------------------------------------------------------------


def test_msg_says_where_it_was_called_from(log: io.StringIO) -> None:
    msg("hello")
    assert log.getvalue() == f"test_log.py ({line_here() - 1}): hello\n"


def test_msg_formats_its_arguments(log: io.StringIO) -> None:
    msg("{0} {1!r} {name:>4}", "a", "b", name="c")
    assert log.getvalue().endswith("): a 'b'    c\n")
    msg("{name}", name="alone")
    assert log.getvalue().endswith("): alone\n")


@pytest.mark.parametrize("text", ["{", "}", "{0}", "{name}", "{}", "{{}}", "%s", '{"a": 1}'])
def test_without_arguments_braces_are_just_text(log: io.StringIO, text: str) -> None:
    msg(text)
    assert log.getvalue().endswith(f"): {text}\n")


def test_braces_in_arguments_are_just_text(log: io.StringIO) -> None:
    msg("{0}", "{0} {1} {x}")
    assert log.getvalue().endswith("): {0} {1} {x}\n")


def test_long_msg_can_be_switched_off_and_on(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_server, "LONG_MSG", False)
    msg("short")
    monkeypatch.setattr(quick_server, "LONG_MSG", True)
    msg("long")
    short, long = log.getvalue().splitlines()
    assert short == "[SERVER] short"
    assert long.startswith("test_log.py (")


def test_the_servers_own_lines_say_so(log: io.StringIO) -> None:
    """Whatever calls `msg` from a file of the package is the server."""
    own = os.path.join(os.path.dirname(quick_server.__file__), "anything.py")
    exec(compile("msg('from inside')", own, "exec"), {"msg": msg})
    beside = os.path.dirname(quick_server.__file__) + "_tool/anything.py"
    exec(compile("msg('from beside')", beside, "exec"), {"msg": msg})
    log_server("on its own")
    assert log.getvalue().splitlines() == [
        "[SERVER] from inside",
        "anything.py (1): from beside",
        "[SERVER] on its own",
    ]


def test_an_exception_comes_with_its_traceback(log: io.StringIO) -> None:
    try:
        raise ValueError("no {luck}")
    except ValueError:
        log_exception("it {failed}")
    lines = log.getvalue().splitlines()
    assert lines[0] == "[SERVER] it {failed}"
    assert lines[1] == "  Traceback (most recent call last):"
    assert lines[-1] == "  ValueError: no {luck}"


def test_a_message_in_an_exception_forges_no_line(log: io.StringIO) -> None:
    try:
        raise ValueError('x\n127.0.0.1 [now] 3 B "GET / HTTP/1.1" 200\x1b[2J')
    except ValueError:
        log_exception("it\nfailed")
    first, *others = log.getvalue().splitlines()
    assert first == "[SERVER] it\\x0afailed"
    assert all(line.startswith("  ") for line in others)
    assert "\x1b" not in log.getvalue()


def test_a_huge_message_in_an_exception_is_cut(log: io.StringIO) -> None:
    """A client may have sent it: `{}[args["post"]["key"]]`."""
    try:
        try:
            raise KeyError("x" * 1_000_000)
        except KeyError as error:
            raise ValueError("\n\x01" * 1_000_000) from error
    except ValueError:
        log_exception("it failed")
    assert len(log.getvalue()) < 50_000
    assert "KeyError: 'xxx" in log.getvalue()
    assert re.search(r"(?m)^  … and \d+ more characters$|x… and \d+ more characters$", log.getvalue())
    assert "raise ValueError" in log.getvalue()


# ---- debug ------------------------------------------------------------------------------------


def test_debug_is_silent_and_free_unless_asked_for(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []

    def text() -> str:
        called.append(1)
        return "details {0}"

    monkeypatch.delenv("QUICK_SERVER_DEBUG", raising=False)
    debug(text)
    monkeypatch.setenv("QUICK_SERVER_DEBUG", "")
    debug(text)
    assert (called, log.getvalue()) == ([], "")
    monkeypatch.setenv("QUICK_SERVER_DEBUG", "1")
    debug(text)
    assert log.getvalue() == f"[DEBUG] test_log.py ({line_here() - 1}): details {{0}}\n"
    assert called == [1]


# ---- where it goes ----------------------------------------------------------------------------


def test_the_log_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log_server("hello")
    assert capsys.readouterr() == ("", "[SERVER] hello\n")


def test_the_log_may_go_to_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_server, "MSG_STDERR", False)
    log_server("hello")
    assert capsys.readouterr() == ("[SERVER] hello\n", "")


def test_a_log_file_takes_it_all_until_it_is_taken_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.StringIO()
    set_log_file(file)
    log_server("one")
    monkeypatch.setattr(quick_server, "MSG_STDERR", False)
    log_server("two")
    assert capsys.readouterr() == ("", "")
    set_log_file(None)
    log_server("three")
    assert file.getvalue() == "[SERVER] one\n[SERVER] two\n"
    assert capsys.readouterr() == ("[SERVER] three\n", "")


def test_each_line_is_flushed(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with path.open("w") as file:
        set_log_file(file)
        log_server("hello")
        assert path.read_text() == "[SERVER] hello\n"


class Lines(list[str]):
    """A log file that is a list: false while it is empty."""

    def write(self, text: str, /) -> None:
        self.append(text)

    def flush(self) -> None:
        """Nothing to do."""


def test_a_log_file_that_is_empty_is_one_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    set_log_file(lines)
    log_server("hello")
    assert lines == ["[SERVER] hello\n"]
    assert capsys.readouterr() == ("", "")


def test_a_process_without_standard_streams_logs_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    log_server("hello")
    monkeypatch.setattr(quick_server, "MSG_STDERR", False)
    log_server("hello")


# ---- when its end goes away -------------------------------------------------------------------


class Broken:
    """A log file that fails where it is told to."""

    def __init__(self, write: BaseException | None, flush: BaseException | None) -> None:
        self.write_error = write
        self.flush_error = flush
        self.text = ""

    def write(self, text: str, /) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.text += text

    def flush(self) -> None:
        if self.flush_error is not None:
            raise self.flush_error


@pytest.mark.parametrize(
    "broken",
    [
        Broken(BrokenPipeError(32, "Broken pipe"), None),
        Broken(None, BrokenPipeError(32, "Broken pipe")),
        Broken(OSError(28, "No space left on device"), None),
        Broken(ValueError("I/O operation on closed file"), None),
    ],
    ids=["EPIPE in write", "EPIPE in flush", "ENOSPC", "closed"],
)
def test_a_log_that_breaks_disturbs_nobody_and_may_come_back(broken: Broken) -> None:
    set_log_file(broken)
    for _ in range(3):
        msg("lost")
        log_server("lost")
        log_exception("lost")
    broken.write_error = broken.flush_error = None
    broken.text = ""
    log_server("back")
    assert broken.text == "[SERVER] back\n"


def test_a_closed_file_disturbs_nobody() -> None:
    file = io.StringIO()
    file.close()
    set_log_file(file)
    msg("lost")
    log_server("lost")


def test_a_pipe_that_nobody_reads_disturbs_nobody() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    file = os.fdopen(write_end, "w")
    set_log_file(file)
    for _ in range(3):
        log_server("lost")
    with pytest.raises(BrokenPipeError):  # which shows that it was broken indeed
        file.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_full_disk_disturbs_nobody() -> None:
    file = open("/dev/full", "w")  # noqa: SIM115 (closing it fails as well)
    set_log_file(file)
    for _ in range(3):
        log_server("lost")
    with suppress(OSError):
        file.close()


def test_a_line_that_the_file_cannot_hold_is_given_up_alone(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    with path.open("w", encoding="ascii") as file:
        set_log_file(file)
        log_server("snow: \u2603")
        log_server("rain")
    assert path.read_text() == "[SERVER] rain\n"


# ---- many threads -----------------------------------------------------------------------------


class CharByChar:
    """A log file that lets other threads in between any two characters."""

    def __init__(self) -> None:
        self.characters: list[str] = []

    def write(self, text: str, /) -> None:
        for character in text:
            self.characters.append(character)

    def flush(self) -> None:
        """Nothing to do."""


def test_lines_stay_whole_whoever_writes() -> None:
    threads, lines = 6, 60
    file: LogFile = CharByChar()
    set_log_file(file)
    start = threading.Barrier(threads)

    def work(name: str) -> None:
        start.wait(PATIENCE)
        for number in range(lines):
            write_line(f"{name * 80} {number}")

    workers = [threading.Thread(target=work, args=(name,)) for name in "abcdef"[:threads]]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert isinstance(file, CharByChar)
    written = "".join(file.characters).splitlines()
    for name in "abcdef"[:threads]:
        own = [line for line in written if line.startswith(name)]
        assert own == [f"{name * 80} {number}" for number in range(lines)]
    assert len(written) == threads * lines


# ---- what a client may have sent --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ümläut, ☃ and 😀", "plain text, ümläut, ☃ and 😀"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x00\t\x1b[2J\x7f", "\\x00\\x09\\x1b[2J\\x7f"),
        ("\x80\x85\x9f\xa0", "\\x80\\x85\\x9f\xa0"),
        ("\u061c\u200e\u202e\u2066", "\\u061c\\u200e\\u202e\\u2066"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800\udcff\udfff", "\\ud800\\udcff\\udfff"),
        ("", ""),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert escape(text) == shown


@pytest.mark.parametrize("text", ['GET /" 200 (1ms)', '"', "\\", '\\"\n"', ""])
def test_what_is_quoted_ends_with_its_last_quote(text: str) -> None:
    shown = quote(text)
    assert shown[0] == shown[-1] == '"'
    assert '"' not in shown[1:-1]
    assert shown[1:-1].replace("\\x22", '"').replace("\\x0a", "\n") == text


@given(st.text(st.characters(codec=None) | st.sampled_from("\r\n\x00\x85\u2028\ud800 {}\\")))
def test_what_is_escaped_is_one_line_that_any_utf8_log_takes(text: str) -> None:
    shown = escape(text)
    assert len(f"x{shown}x".splitlines()) == 1
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert escape(shown) == shown


# ---- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 kB"),
        (1229, "1.2 kB"),
        (1536, "1.5 kB"),
        (1024**2, "1.0 MB"),
        (2.5 * 1024**2, "2.5 MB"),
        (1024**3, "1.0 GB"),
        (1024**4, "1.0 TB"),
        (5000 * 1024**4, "5000.0 TB"),
    ],
)
def test_sizes_for_people(size: float, shown: str) -> None:
    assert size_string(size) == shown


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (0, "0.00ms"),
        (0.123, "0.12ms"),
        (12.3456, "12.35ms"),
        (999.4, "999.40ms"),
        (1000, "1.00s"),
        (6012.3, "6.01s"),
        (123456, "123.46s"),
    ],
)
def test_durations_for_people(milliseconds: float, shown: str) -> None:
    assert elapsed_string(milliseconds) == shown


@pytest.fixture
def in_vienna(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def test_times_are_local(in_vienna: None) -> None:
    assert timestamp(1_767_225_599) == "2026-01-01 00:59:59"
    assert timestamp(1_782_864_000.9) == "2026-07-01 02:00:00"


def test_the_clock_never_goes_back() -> None:
    moments = [get_time() for _ in range(1000)]
    assert moments == sorted(moments)
