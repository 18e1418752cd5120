"""Which parts of a table are shortened in narrow terminals, and which never are."""

import pytest
from rich.cells import cell_len

from hardness.shortening import Shortener
from hardness.tables import Location, Name, lines

SHARK = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias"
NORTH, SOUTH = (f"great white heron, Egretta albus of the {side} hemisphere" for side in ("north", "south"))
CJK = "猫科动物中的大型掠食者包括狮子老虎豹子等等动物"


def shown(header, *rows, width=80) -> tuple[list[str], list[str]]:
    return lines(header, rows, width, Shortener())


def test_nothing_is_shortened_if_there_is_room():
    above, below = shown(["class", "easy"], [Name(SHARK), 12], [Name("eel"), 5], width=100)
    assert above == [f"{'class':{len(SHARK)}}  easy"]
    assert below == [f"{SHARK}    12", f"{'eel':{len(SHARK)}}     5"]


def test_names_are_shortened_before_keys_and_numbers_never():
    key = "train/n01484850/ILSVRC2012_train_00000016.png"
    header = ["key", "given", "suggested", "aum"]
    _, (line,) = shown(header, [Location(key), Name(SHARK), Name(NORTH), "-0.2501"])
    assert cell_len(line) <= 80
    assert line.startswith(f"{key}  gre")
    assert line.endswith("  -0.2501")
    long = f"train/{SHARK}/ILSVRC2012_train_00000016.png"
    _, (line,) = shown(header, [Location(long), Name(SHARK), Name(NORTH), "-0.2501"])
    assert cell_len(line) <= 80
    assert line.startswith("train/great")
    assert "…/ILSVRC2012_train_00000016.png  " in line
    assert line.endswith("  -0.2501")


@pytest.mark.parametrize("width", [20, 30, 40, 60])
def test_names_with_a_common_prefix_stay_different(width):
    names = [SHARK, NORTH, SOUTH, "tiger", *(f"a_class_with_a_long_name_{number}" for number in range(12))]
    _, below = shown(["class", "easy"], *([Name(name), 1] for name in names), width=width)
    assert len(set(below)) == len(names)
    assert max(map(cell_len, below)) <= width
    assert "tiger" in below[3].split()


def test_a_name_is_shortened_the_same_way_in_all_columns():
    names = [Name(name.replace(" ", "-")) for name in (NORTH, SOUTH)]
    above, (same, other) = shown(["", *names], ["x", *names], ["y", *names[::-1]], width=40)
    assert above[0].split() == same.split()[1:] == other.split()[:0:-1]
    assert len(set(above[0].split())) == 2


def test_wide_characters_take_two_cells():
    _, below = shown(["class", "easy"], [Name(CJK), 1], [Name("eel"), 22], width=21)
    assert [cell_len(line) for line in below] == [21, 21]
    assert below[0].startswith("猫科动物中的大")


def test_headers_are_wrapped_before_names_are_shortened():
    header = ["class", "easy-control", "tied at the border"]
    above, below = shown(header, [Name("a name of 20 letters"), 1, 0.5], width=39)
    assert below == ["a name of 20 letters        1       0.5"]
    assert [line.split() for line in above[:2]] == [["tied", "at"], ["easy-", "the"]]
    assert above[2].split() == ["class", "control", "border"]


def test_numbers_are_never_shortened():
    _, (line,) = shown(["", "plain"], ["score", "0.283 [0.160, 0.402]"], width=12)
    assert line == "score  0.283 [0.160, 0.402]"


def test_escaped_characters_are_never_split():
    def write(text):
        return text.encode("ascii", "backslashreplace").decode()

    _, (line,) = lines(["class", "easy"], [[Name(CJK), 1]], 24, Shortener(write, "..."))
    assert line == r"\u732b\u79d1...        1"


@pytest.mark.parametrize("width", [12, 24, 41, 60])
def test_a_shortened_path_keeps_its_beginning_and_file_name(width):
    short = Shortener()
    path = "experiments/2024-imagenet-sharks/tracked-with-small-cnn-seed-0/q0.3.parquet"
    found = short.in_middle(path, width)
    assert len(found) <= width
    assert found.startswith("exp" if width > 12 else "e")
    assert found.endswith("…/q0.3.parquet" if width > 20 else "rquet")
    assert short.in_middle("a/b.png", width) == "a/b.png"
