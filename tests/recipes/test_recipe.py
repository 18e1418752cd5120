"""A recipe is read as written, and what no recipe has is refused in one line that says what to do."""

from pathlib import Path

import pytest

from hardness.recipes.recipe import read
from hardness.registry import STAGES
from tests.conftest import refused


@pytest.fixture
def recipe(here):
    """Write a recipe -> it as read, changed as --set says."""

    def write(text, *changes):
        Path("mine.toml").write_text(text)
        return read(Path("mine.toml"), changes)

    return write


def test_settings_are_those_of_the_dataclass_and_lists_are_grids(recipe):
    found = recipe(
        """
        [all]
        batch_size = 16
        out = "reports/mine"

        [track]
        seed = [0, 1]
        lr = 1
        gpus = 2

        [noisy]
        stage = "memorize"
        noise = [0, 0.5]
        optimizers = [["sgd"], ["m3", "a3"]]
        batch_size = 32

        [report]
        from = ["track", "noisy"]
        cpus = 4
        """
    )
    track, noisy, report = (found.stages[id] for id in ("track", "noisy", "report"))
    assert (track.entry.name, track.grid) == ("track", {"seed": [0, 1]})
    # The folders of runs are the recipe's.
    assert track.settings == {"lr": 1.0, "batch_size": 16}
    assert noisy.settings == {"noise": (0.0, 0.5), "batch_size": 32}
    assert noisy.grid == {"optimizers": [("sgd",), ("m3", "a3")]}
    assert report.settings == {"out": Path("reports/mine")}
    assert report.sources == ("track", "noisy")
    assert [(each.cpus, each.gpus) for each in (track, noisy, report)] == [(1, 2), (1, 1), (4, 0)]
    assert found.runs == Path("runs/mine")


def test_set_changes_what_is_written(recipe):
    text = "runs = 'a'\n[track]\nepochs = 20\n[split]\nfrom = 'track'\n"
    changes = [
        "track.epochs=3",
        "track.data=digits",
        "split.balance=['none', 'class']",
        "runs=b",
        "all.lr=0.5",
    ]
    found = recipe(text, *changes)
    assert found.runs == Path("b")
    assert found.stages["track"].settings == {"epochs": 3, "data": "digits", "lr": 0.5}
    assert found.stages["split"].grid == {"balance": ["none", "class"]}


def test_stages_come_after_those_that_feed_them(recipe):
    found = recipe("[report]\nfrom = 'retrain'\n[retrain]\nfrom = 'split'\n[split]\nfrom = 'track'\n[track]")
    assert list(found.stages) == ["track", "split", "retrain", "report"]


def test_what_is_searched_for_is_not_shared(recipe):
    text = """
        [all]
        lr = 0.3
        [search]
        stage = "memorize"
        lr = [0.1, 0.2]
        [memorize]
        from = "search"
        [track]
        """
    found = recipe(text)
    assert "lr" not in found.stages["memorize"].settings
    assert found.stages["track"].settings == {"lr": 0.3}


def test_every_input_fills_a_setting_of_its_stage():
    for stage in STAGES.values():
        assert {*stage.inputs} <= {name for name, entry in STAGES.items() if entry.in_recipes}
        assert {*stage.inputs.values(), *stage.pooled} <= {*stage.load().__dataclass_fields__}


@pytest.mark.parametrize(
    ("text", "changes", "code", "values"),
    [
        ("[track]\nepoch = 3", [], "unknown-name", {"name": "epoch", "near": "epochs"}),
        ("[track]\nout = 'x'", [], "unknown-name", {"name": "out", "kind": "a setting of [track]"}),
        ("[trak]", [], "unknown-name", {"name": "trak", "kind": "a stage for [trak]"}),
        ("[a]\nstage = 'show'", [], "unknown-name", {"name": "show", "kind": "a stage for [a]"}),
        ("[track]\n[split]\nfrom = 'trakc'", [], "unknown-name", {"name": "trakc", "near": "track"}),
        ("[all]\nepoch = 3\n[track]", [], "unknown-name", {"kind": "a setting of [all]"}),
        ("epochs = 3\n[track]", [], "setting-outside-stage", {"path": "mine.toml", "name": "epochs"}),
        ("[track]\nepochs = 'many'", [], "bad-setting", {"name": "track.epochs", "value": "many"}),
        ("[track]\nrecord = 'evil'", [], "bad-setting", {"reason": "Input should be 'eval' or 'train'"}),
        ("[track]\nepochs = [3, 'many']", [], "bad-setting", {"name": "track.epochs", "value": "many"}),
        ("[track]\nseed = []", [], "empty-grid", {"name": "seed", "id": "track"}),
        ("[track]\nseed = [1, 1]", [], "repeated-values", {"setting": "seed of [track]"}),
        ("[track]\n[retrain]\nfrom = 'track'", [], "wrong-source", {"id": "retrain", "of": "track"}),
        ("[track]\n[pack]\nfrom = 'track'", [], "wrong-source", {"id": "pack", "source": "track"}),
        ("[track]\n[split]\nfrom = 'track'\nrun = ['x']", [], "setting-twice", {"setting": "run"}),
        ("[memorize]\nfrom = 'memorize'", [], "stage-cycle", {"cycle": "memorize from memorize"}),
        (
            "[a]\nstage = 'memorize'\nfrom = 'b'\n[b]\nstage = 'memorize'\nfrom = 'a'",
            [],
            "stage-cycle",
            {},
        ),
        ("[split]\ngpus = 2", [], "too-many-gpus", {"id": "split", "gpus": 2.0}),
        ("[track]\ncpus = 0", [], "no-resources", {"cpus": 0}),
        ("[track]\nfrom = 3", [], "bad-setting", {"name": "track.from"}),
        ("[a]\nstage = ['track']", [], "bad-setting", {"name": "a.stage"}),
        ("['..']\nstage = 'track'", [], "bad-stage-id", {"id": ".."}),
        ("['a/b']\nstage = 'track'", [], "bad-stage-id", {"id": "a/b"}),
        ("[done]\nstage = 'track'", [], "bad-stage-id", {"id": "done"}),
        ("", [], "no-stages", {"path": "mine.toml"}),
        ("[track", [], "not-toml", {"path": "mine.toml"}),
        ("[track]", ["track.epoch=3"], "unknown-name", {"near": "epochs"}),
        ("[track]", ["trak.epochs=3"], "unknown-name", {"name": "trak"}),
        ("runs = 'a'\n[track]", ["runs.epochs=3"], "unknown-name", {"name": "runs"}),
        ("all = 3\n[track]", ["all.epochs=3"], "unknown-name", {"name": "all"}),
        ("[track]", ["epochs"], "not-a-change", {"change": "epochs"}),
        ("base = '../other.toml'", [], "bad-base", {"base": "../other.toml"}),
        ("base = 'mine.toml'", [], "bad-base", {"base": "mine.toml"}),
        ("base = 'nowhere.toml'", [], "no-such-file", {"path": "nowhere.toml"}),
    ],
)
def test_what_no_recipe_has_is_refused(recipe, text, changes, code, values):
    with refused(code, **values) as caught:
        recipe(text, *changes)
    assert "\n" not in str(caught.value)


def test_a_recipe_takes_over_what_its_base_says(recipe):
    Path("base.toml").write_text("runs = 'a'\n[all]\nlr = 0.1\n[track]\nepochs = 2\nseed = [0, 1]\n")
    found = recipe("base = 'base.toml'\n[all]\nmodel = 'mlp'\n[track]\nepochs = 3\n[split]\nfrom = 'track'")
    assert list(found.stages) == ["track", "split"]
    assert found.stages["track"].settings == {"epochs": 3, "lr": 0.1, "model": "mlp"}
    assert found.stages["track"].grid == {"seed": [0, 1]}
    assert found.runs == Path("a")


def test_a_recipe_that_is_not_there():
    with refused("no-such-file", path="nowhere.toml"):
        read(Path("nowhere.toml"))
