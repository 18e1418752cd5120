import pickle

import pytest

from hardness.errors import UserError, unknown_name


def test_a_mistake_is_one_line_of_three_parts():
    error = UserError("a folder x", "a file\n  of that name", "move it")
    assert str(error) == "expected a folder x; found a file of that name; move it"


def test_a_mistake_survives_pickling():
    error = pickle.loads(pickle.dumps(UserError("a", "b", "c")))
    assert str(error) == "expected a; found b; c"


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet81", "did you mean resnet18?"), ("zzz", "choose one of those")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name, hint):
    assert hint in str(unknown_name("a model", name, ["mlp", "resnet18", "resnet18"]))
