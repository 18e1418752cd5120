"""A recipe is read as written, and what no recipe has is refused in one line that says what to do."""

from pathlib import Path

import pytest

from hardness import config as c
from hardness.errors import UserError
from hardness.recipes.recipe import FEEDS, KINDS, read


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
    assert (track.kind, track.grid) == (c.Track, {"seed": [0, 1]})
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


def test_every_feed_fills_a_setting_of_its_stage():
    for (fed, by), (setting, _) in FEEDS.items():
        assert setting in fed.__dataclass_fields__
        assert {fed, by} <= set(KINDS.values())


@pytest.mark.parametrize(
    ("text", "changes", "told"),
    [
        ("[track]\nepoch = 3", [], "a setting of [track] among data, size"),
        ("[track]\nepoch = 3", [], "found 'epoch'; did you mean epochs"),
        ("[track]\nout = 'x'", [], "found 'out'"),
        ("[trak]", [], "expected a stage for [trak] among pack, track"),
        ("[trak]", [], "did you mean track"),
        ("[a]\nstage = 'show'", [], "found 'show'"),
        ("[track]\n[split]\nfrom = 'trakc'", [], "the id of a stage for [split] from among track, split"),
        ("[all]\nepoch = 3\n[track]", [], "a setting of [all]"),
        ("epochs = 3\n[track]", [], "epochs under a stage of mine.toml, or [all]"),
        ("[track]\nepochs = 'many'", [], "another track.epochs: input should be a valid integer"),
        ("[track]\nrecord = 'evil'", [], "input should be 'eval' or 'train'; found 'evil'"),
        ("[track]\nepochs = [3, 'many']", [], "another track.epochs"),
        ("[track]\nseed = []", [], "expected values of seed in [track]; found an empty grid"),
        ("[track]\nseed = [1, 1]", [], "each seed of [track] once"),
        ("[track]\n[retrain]\nfrom = 'track'", [], "[retrain] from split; found [track], which is track"),
        ("[track]\n[pack]\nfrom = 'track'", [], "no from in [pack]"),
        (
            "[track]\n[split]\nfrom = 'track'\nrun = ['x']",
            [],
            "expected run of [split] from [track]; found both",
        ),
        ("[memorize]\nfrom = 'memorize'", [], "never themselves; found memorize from memorize"),
        ("[a]\nstage = 'memorize'\nfrom = 'b'\n[b]\nstage = 'memorize'\nfrom = 'a'", [], "break the circle"),
        ("[split]\ngpus = 2", [], "of all stages track alone uses several"),
        ("[track]\ncpus = 0", [], "a positive cpus"),
        ("[track]\nfrom = 3", [], "another track.from: "),
        ("[a]\nstage = ['track']", [], "another a.stage: input should be a valid string"),
        ("['..']\nstage = 'track'", [], "an id of letters, digits, - and _; found '..'"),
        ("['a/b']\nstage = 'track'", [], "found 'a/b'"),
        ("[done]\nstage = 'track'", [], "found 'done', a folder of every recipe"),
        ("", [], "a recipe with stages"),
        ("[track", [], "expected TOML in mine.toml"),
        ("[track]", ["track.epoch=3"], "did you mean epochs"),
        ("[track]", ["trak.epochs=3"], "the id of a stage for --set among all, track"),
        ("[track]", ["epochs"], "expected --set ID.SETTING=VALUE; found 'epochs'"),
    ],
)
def test_what_no_recipe_has_is_refused(recipe, text, changes, told):
    with pytest.raises(UserError) as refused:
        recipe(text, *changes)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_recipe_that_is_not_there():
    with pytest.raises(UserError, match=r"no file nowhere\.toml"):
        read(Path("nowhere.toml"))
