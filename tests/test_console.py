import io
import os
import re
import subprocess
import sys

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


def test_a_terminal_shows_a_bar_and_the_last_epochs_below_other_output(terminal):
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
def test_without_a_terminal_there_are_lines_or_nothing(capsys, lines):
    with console.Epochs(7, lines=lines) as epochs:
        epochs.begin("tracking")
        for numbers in NUMBERS[:2]:
            epochs.add(numbers | {"validation": "0.5"})
    expected = "epoch 1/7: train loss 1.000, validation 0.5\nepoch 2/7: train loss 0.500, validation 0.5\n"
    assert capsys.readouterr().out == (expected if lines else "")


@pytest.mark.parametrize(
    ("num_left", "expected"),
    [(18, "1.2 s per epoch, about 22 s left\n"), (500, "1.2 s per epoch, about 10 minutes left\n"), (0, "")],
)
def test_the_time_left_is_printed(capsys, num_left, expected):
    console.say_time_left("epoch", 1.2, num_left)
    assert capsys.readouterr().out == expected


def test_remarks_and_warnings_are_one_line_on_stderr_without_markup(capsys):
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


def test_a_sparkline_in_ascii(monkeypatch):
    monkeypatch.setattr(console, "_out", Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii")))
    assert console.sparkline(range(8)) == "_.-~=+*#"


def test_facts_are_next_to_their_names_and_wrap(terminal, capsys):
    console.facts("a [title]", [("name", "of it"), ("longer", "word " * 30)])
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()).splitlines()]
    assert lines[:2] == ["a [title]", "name    of it"]
    assert lines[2].startswith("longer  word word")
    assert lines[3].startswith("        word")
    assert max(map(len, lines)) <= 100


def test_a_narrow_terminal_shows_fewer_columns_and_whole_numbers(monkeypatch):
    sent = io.StringIO()
    monkeypatch.setattr(
        console, "_out", Console(file=sent, force_terminal=True, width=30, _environ={"TERM": "xterm"})
    )
    with console.Epochs(9) as epochs:
        epochs.begin("a network of a very long name indeed")
        epochs.add({"epoch": "1/9", "train loss": "1.234", "eval accuracy": "0.987", "images/s": "123456"})
        sent.truncate(0)
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", sent.getvalue()).splitlines()
    assert any(line.split() == ["1/9", "1.234", "0.987"] for line in lines)
    assert "123456"[:2] not in sent.getvalue()


def test_numbers_of_a_table_that_is_too_wide_are_whole(terminal):
    console.table("a [title]", ["", *map(str, range(30))], [["x", *(f"{k / 7:.3f}" for k in range(30))]])
    shown = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()).splitlines()
    assert shown[0] == "a [title]"
    assert shown[2].split() == ["x", *(f"{k / 7:.3f}" for k in range(30))]


_PRINT = """
from hardness import console
console.table("t", ["key", "given", "score"], [["a" * 70 + "/0.png", "b" * 70, "0.1234"]] * 2)
"""


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("", 160), (None, 160)])
def test_without_a_terminal_the_width_is_COLUMNS_or_160(columns, width):
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environ |= {} if columns is None else {"COLUMNS": columns}
    done = subprocess.run(
        [sys.executable, "-c", _PRINT], env=environ, capture_output=True, text=True, check=True
    )
    _, _, *rows = (line.rstrip() for line in done.stdout.splitlines())
    assert rows[0].endswith("  0.1234")
    # Names wrap, and nothing of them is lost.
    assert len(rows) == (2 if width == 160 else 6)
    assert max(map(len, rows)) <= width
    assert "".join(rows).count("a") == "".join(rows).count("b") == 2 * 70


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_the_encoding_lacks_are_escaped(encoding, monkeypatch):
    sent = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", sent)
    monkeypatch.setattr(console, "_out", Console(highlight=False, soft_wrap=True, width=40))
    console.escape_unencodable()
    console.say("a 猫\udcff")
    console.table("猫", ["key", "class"], [["train/猫/0.png", "猫" * 30], ["x\x1b[2J\n", "y"]])
    console.facts("猫", [("name", "猫")])
    sent.flush()
    written = sent.buffer.getvalue().decode(encoding)
    cat = "猫" if encoding == "utf-8" else r"\u732b"
    lines = written.splitlines()
    assert lines[0] == rf"a {cat}\udcff"
    assert lines[1] == cat
    assert lines[3].startswith(f"train/{cat}")
    assert next(line for line in lines if line.startswith("x")).split() == [r"x\x1b[2J\x0a", "y"]


def test_help_in_ascii():
    environ = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-m", "hardness", "--help"], env=environ, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("ascii")
