import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.datasets.found import Notes, note_hidden, note_others, number_classes, parse_label
from tests.conftest import refused


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("7", 7),
        ("000", 0),
        ("7\n", 7),
        (" 12 ", 12),
        ("+3", 3),
        ("cat", "cat"),
        ("great white shark, 2", "great white shark, 2"),
        ("n01440764", "n01440764"),
        ("猫", "猫"),
    ],
)
def test_labels_are_parsed(text, label):
    assert parse_label(text) == label


@pytest.mark.parametrize(
    "text", ["", "\n", "-1", "2.0", "1e3", "nan", "inf", "1000000", "cat\ndog", "\0\0\0\x07", "1_000"]
)
def test_other_text_is_not_a_label(text):
    with pytest.raises(ValueError, match="class index"):
        parse_label(text)


@settings(max_examples=30)
@given(st.integers(0, 999_999), st.integers(0, 5))
def test_every_index_is_parsed(number, zeros):
    assert parse_label("0" * zeros + str(number)) == number


def test_classes_are_in_order():
    assert number_classes({"b", "a"}, Notes()) == (["a", "b"], {"a": 0, "b": 1})
    assert number_classes({3, 1}, Notes()) == (["0", "1", "2", "3"], {1: 1, 3: 3})
    with refused("mixed-labels") as caught:
        number_classes({1, "a"}, Notes())
    assert set(caught.value.values["examples"].split(", ")) == {"1", "'a'"}


def test_class_names_are_unicode_normalized():
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    notes = Notes()
    assert number_classes({composed, decomposed, "dog"}, notes) == (
        [composed, "dog"],
        {composed: 0, decomposed: 0, "dog": 1},
    )
    assert len(notes.lines) == 1
    assert "café" in notes.lines[0]
    assert number_classes({decomposed, "dog"}, notes)[0] == [composed, "dog"]
    assert len(notes.lines) == 1


def test_skipped_files_are_counted():
    notes = Notes()
    note_hidden([], notes)
    note_others([], notes)
    assert notes == Notes()
    note_hidden(["._a.png", "._a.png", ".git"], notes)
    note_others(["a.heic", "b.HEIC", "readme"], notes)
    assert [line.partition(": ")[2] for line in notes.lines] == ["3 (._a.png: 2, .git: 1)"]
    assert [line.partition(": ")[2] for line in notes.warnings] == ["3 (.heic: 2, no extension: 1)"]
