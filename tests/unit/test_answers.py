"""Standard input while the console has it: who reads gets lines from there, or the end."""

from __future__ import annotations

from quick_server.answers import Answer, Answers


def answering(*lines: str | None) -> Answers:
    """What brings these lines at once, one each time that it is asked."""
    left = list(lines)

    def ask(answer: Answer) -> None:
        answer(left.pop(0))

    return Answers(ask, lambda: True, is_terminal=True)


def test_lines_come_one_by_one_until_the_end() -> None:
    answers = answering("one", "", None)
    assert answers.readline() == "one\n"
    assert answers.readline() == "\n"
    assert answers.readline() == ""


def test_everything_is_what_comes_until_the_end() -> None:
    assert answering("one", "two", None).read() == "one\ntwo\n"
    assert list(answering("one", "two", None)) == ["one\n", "two\n"]


def test_it_is_what_the_console_reads_from() -> None:
    assert answering().readable()
    assert answering().isatty()
    assert not Answers(lambda _answer: None, lambda: True, is_terminal=False).isatty()


def test_nobody_waits_for_a_console_that_is_closed() -> None:
    """It was closed just after the question, which it has not heard any more."""
    asked: list[Answer] = []
    answers = Answers(asked.append, lambda: not asked, is_terminal=False)
    assert answers.readline() == ""
    assert len(asked) == 1
