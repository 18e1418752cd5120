import io
import re

import pytest
from rich.console import Console

from hardness import console

NUMBERS = [{"epoch": f"{epoch}/7", "train loss": f"{1 / epoch:.3f}"} for epoch in range(1, 8)]


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """What a terminal of 100 columns is sent."""
    sent = io.StringIO()
    monkeypatch.setattr(
        console, "_out", Console(file=sent, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    )
    return sent


def test_a_terminal_shows_a_bar_and_the_last_epochs_below_what_is_said(terminal):
    with console.Epochs(9, done=2) as epochs:
        epochs.begin("a [network]")
        for numbers in NUMBERS:
            epochs.add(numbers)
        console.say("meanwhile")
    last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.getvalue()).rpartition("meanwhile")[2].splitlines()
    # Of several drawings the last.
    shown = [line.rstrip() for line in last if line.strip()][-7:]
    assert shown[0] == "epoch  train loss"
    assert shown[1:6] == [f"{epoch}/7         {1 / epoch:.3f}" for epoch in range(3, 8)]
    assert re.fullmatch(r"a \[network\] \S+ 9/9 \d:\d\d:\d\d", shown[6])


def test_a_new_network_begins_without_epochs(terminal):
    with console.Epochs(9) as epochs:
        epochs.begin("one")
        epochs.add(NUMBERS[0])
        epochs.begin("two")
        terminal.truncate(0)
    assert "1/7" not in terminal.getvalue()
    assert "two" in terminal.getvalue()


@pytest.mark.parametrize("lines", [True, False])
def test_elsewhere_there_are_lines_or_nothing_at_all(capsys, lines):
    with console.Epochs(7, lines=lines) as epochs:
        epochs.begin("tracking")
        for numbers in NUMBERS[:2]:
            epochs.add(numbers | {"validation": "0.5"})
    expected = "epoch 1/7: train loss 1.000, validation 0.5\nepoch 2/7: train loss 0.500, validation 0.5\n"
    assert capsys.readouterr().out == (expected if lines else "")


def test_what_is_beside_it_is_one_line_on_stderr_as_it_stands(capsys):
    console.remark("a [remark]")
    console.warn("a [warning]")
    assert capsys.readouterr() == ("", "a [remark]\nwarning: a [warning]\n")


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 40, "▁▂▃▄▅▆▇█"),
        ([3.5, -0.5, 0.5], 40, "█▁▃"),  # a level is half wide: 8, 0 and 2 of them
        ([2, 2], 40, "▁▁"),
        ([0, None, 1, float("nan")], 40, "▁ █ "),
        ([0, 0, 1, 3, 4, 4], 3, "▁▅█"),  # means 0, 2, 4
        ([0, 4, 4], 2, "▁█"),
        ([None, None], 40, "  "),
        ([], 40, ""),
    ],
)
def test_a_sparkline(values, width, expected):
    assert console.sparkline(values, width) == expected


def test_a_sparkline_where_there_is_ascii_alone(monkeypatch):
    monkeypatch.setattr(console, "_out", Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii")))
    assert console.sparkline(range(8)) == "_.-~=+*#"


def test_facts_are_beside_their_names_and_wrap(terminal, capsys):
    console.facts("a [title]", [("name", "of it"), ("longer", "word " * 30)])
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()).splitlines()]
    assert lines[:2] == ["a [title]", "name    of it"]
    assert lines[2].startswith("longer  word word")
    assert lines[3].startswith("        word")
    assert max(map(len, lines)) <= 100
