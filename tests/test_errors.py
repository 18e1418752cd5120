import ast
import pickle
import re
from pathlib import Path

import pytest

import hardness
from hardness.errors import UserError, unknown_name


def momentum(optimizer="adamw") -> UserError:
    sentence = "{optimizer} does not take --momentum (got {value}).\n"
    return UserError("no-momentum", sentence, "Remove it.", optimizer=optimizer, value=0.9)


def test_a_mistake_is_one_line_with_its_values_a_hint_and_a_code():
    assert str(momentum()) == "adamw does not take --momentum (got 0.9). Remove it. [no-momentum]"
    assert momentum().code == "no-momentum"
    assert momentum().values == {"optimizer": "adamw", "value": 0.9}


def test_values_may_have_braces_and_line_ends():
    assert str(momentum("{a}\n b")).startswith("{a} b does not take")


def test_a_mistake_survives_pickling():
    error = pickle.loads(pickle.dumps(momentum()))
    assert (error.code, error.values, str(error)) == ("no-momentum", momentum().values, str(momentum()))


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet81", "Did you mean resnet18?"), ("zzz", "Choose one of those.")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name, hint):
    error = unknown_name("a model", name, ["mlp", "resnet18", "resnet18"])
    assert error.code == "unknown-name"
    assert (error.values["name"], error.values["known"]) == (name, "mlp, resnet18")
    assert hint in str(error)


def codes() -> list[tuple[str, ast.expr]]:
    """Where errors are made in the package, and the code of each."""
    found = []
    for path in sorted(Path(hardness.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
            if name in ("UserError", "require"):
                found.append((f"{path.name}:{node.lineno}", node.args[name == "require"]))
    return found


def test_every_error_has_a_code_that_does_not_change():
    made = [(place, code) for place, code in codes() if not place.startswith("errors.py")]
    assert len(made) > 150
    for place, code in made:
        if place.startswith("checks.py") and getattr(code, "id", "") == "code":
            continue  # ``require`` passes on the code that it is given.
        assert isinstance(code, ast.Constant), place
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", code.value), place
