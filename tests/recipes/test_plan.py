"""A recipe becomes runs: every combination once, each fed by those that it belongs to."""

import json
from pathlib import Path

import pytest

from hardness.recipes.plan import expand
from hardness.recipes.recipe import read
from hardness.settings.split import Split
from hardness.settings.track import Track
from tests.conftest import refused


@pytest.fixture
def plan(here):
    """Write a recipe -> its runs by name."""

    def write(text, most=None):
        Path("mine.toml").write_text(text)
        return expand(read(Path("mine.toml")), most)

    return write


def needs(run):
    return [need.name for need in run.depends_on]


def test_each_is_fed_by_the_run_that_it_is_of(plan):
    runs = plan(
        """
        [track]
        seed = [3, 4]
        [split]
        from = "track"
        balance = ["none", "class"]
        [retrain]
        from = "split"
        [report]
        from = ["track", "retrain"]
        """
    )
    assert list(runs) == [
        *("track-seed3", "track-seed4"),
        *("split-seed3-none", "split-seed4-none", "split-seed3-class", "split-seed4-class"),
        *("retrain-seed3-none", "retrain-seed4-none", "retrain-seed3-class", "retrain-seed4-class"),
        "report",
    ]
    tracked, split, retrained = (
        runs[name] for name in ("track-seed4", "split-seed4-class", "retrain-seed4-class")
    )
    assert needs(split) == ["track-seed4"]
    assert needs(retrained) == ["split-seed4-class"]
    folder = Path("runs/mine/track-seed4")
    assert tracked.config == Track(seed=4, out=folder, resume=True)
    assert split.config == Split(run=(folder,), balance="class")
    assert split.output == folder / "splits/q0.2-class.parquet"
    assert retrained.config.split == split.output
    report = runs["report"].config
    assert report.out == Path("reports/mine")
    assert report.runs == tuple(runs[name].output for name in runs if name.startswith(("track", "retrain")))
    assert split.command == "hardness split --run runs/mine/track-seed4 --balance class"


def test_several_that_feed_the_same_are_taken_in_turn(plan):
    runs = plan(
        """
        [track]
        [by-loss]
        stage = "split"
        from = "track"
        by = "mean_loss"
        [split]
        from = "track"
        [retrain]
        from = ["split", "by-loss"]
        """
    )
    assert needs(runs["retrain-split"]) == ["split"]
    assert needs(runs["retrain-by-loss"]) == ["by-loss"]


def test_a_search_feeds_each_optimizer_its_own(plan):
    runs = plan(
        """
        [search]
        stage = "memorize"
        optimizers = [["sgd"], ["m3"]]
        lr = [0.1, 0.2]
        [memorize]
        from = "search"
        optimizers = [["sgd"], ["m3"]]
        noise = [[0.0], [0.5]]
        """
    )
    assert needs(runs["memorize-m3-noise0.5"]) == ["search-m3-lr0.1", "search-m3-lr0.2"]
    searched = tuple(Path("runs/mine", name) for name in ("search-m3-lr0.1", "search-m3-lr0.2"))
    assert runs["memorize-m3-noise0.5"].config.lr_from == searched
    assert runs["memorize-m3-noise0.5"].config.lr is None


def test_packed_images_are_checked_by_their_source_until_they_are_there(plan, image_folder):
    text = f"""
        [pack]
        data = "imagefolder:{image_folder}"
        out = "data/small"
        size = 8
        [track]
        from = "pack"
        """
    runs = plan(text)
    assert runs["track"].settings["data"] == "packed:data/small"
    before = runs["track"].fingerprint
    Path("data/small").mkdir(parents=True)
    Path("data/small/pack.json").write_text("{}")
    assert plan(text)["track"].fingerprint == before
    assert plan(text)["track"].config.data == "packed:data/small"
    # The source may be gone by now.
    assert plan(text.replace(str(image_folder), "gone"))["track"].config.data == "packed:data/small"


def test_digits_are_packed_unless_told(plan):
    assert plan("[pack]\n[track]\nfrom = 'pack'")["track"].settings["data"] == "packed:data/digits.packed"


def test_scores_of_a_run_are_added_one_after_the_other(plan):
    runs = plan(
        """
        [track]
        [grand]
        stage = "score"
        from = "track"
        with = ["grand"]
        [depth]
        stage = "score"
        from = "track"
        with = ["prediction-depth"]
        """
    )
    assert sorted(map(needs, (runs["grand"], runs["depth"])), key=len)[1] == ["track", "grand"]
    assert runs["depth"].config.with_ == ("prediction-depth",)


def test_a_stage_that_asks_two_stages_takes_what_belongs_together(plan):
    runs = plan(
        """
        [track]
        seed = [0, 1]
        checkpoint_every = 1
        [split]
        from = "track"
        [score]
        from = ["track", "split"]
        coherence = true
        """
    )
    assert [name for name in runs if name.startswith("score")] == ["score-seed0", "score-seed1"]
    assert needs(runs["score-seed1"]) == ["track-seed1", "split-seed1"]
    assert runs["score-seed1"].config.run == (Path("runs/mine/track-seed1"),)


def test_many_runs_are_asked_about(plan):
    text = f"[track]\nseed = {list(range(11))}\nepochs = {list(range(1, 101))}"
    with refused("many-runs", path="mine.toml", most=1000):
        plan(text, most=1000)
    assert len(plan(text)) == 1100


def test_settings_that_cannot_work_are_refused_before_anything_runs(plan):
    with refused("out-of-range", flag="--epochs"):
        plan("[track]\nepochs = [3, -1]")
    with refused("no-matching-source", id="split"):
        plan("[track]\nseed = [0, 1]\n[split]\nfrom = 'track'\nseed = [2]")


def test_outputs_of_one_name_are_refused(plan):
    text = "[track]\n[split]\nfrom = 'track'\n[again]\nstage = 'split'\nfrom = 'track'\nname = 'q0.2'"
    with refused("same-output", first="split", second="again"):
        plan(text)


def test_done_is_what_was_made_by_the_same_settings(plan):
    text = "[track]\nepochs = 3\n[split]\nfrom = 'track'\n"
    runs = plan(text)
    assert not any(run.is_done for run in runs.values())
    for run in runs.values():
        run.output.parent.mkdir(parents=True, exist_ok=True)
        run.output.touch() if run.output.suffix else run.output.mkdir()
        run.mark_done(12.0)
    assert all(run.is_done for run in plan(text).values())
    assert plan(text)["split"].seconds == 12.0
    # A setting that is written out, as it is by default, changes nothing.
    assert all(run.is_done for run in plan(text + "quantile = 0.2").values())
    with refused("recipe-changed", run="runs/mine/track", setting="epochs", before=3, now=4):
        _ = plan(text.replace("3", "4"))["track"].is_done
    # A split is made again where it would be another.
    assert not plan(text + "controls = 3").pop("split").is_done
    runs["split"].output.unlink()
    assert not runs["split"].is_done


def test_what_was_fed_otherwise_is_refused(plan):
    text = "[track]\n[split]\nfrom = 'track'\nname = 's'\n[retrain]\nfrom = 'split'\n"
    run = plan(text)["retrain"]
    run.output.mkdir(parents=True)
    run.mark_done(1.0)
    with refused("other-sources", run="runs/mine/retrain"):
        _ = plan(text.replace("name = 's'", "name = 's'\nquantile = 0.3"))["retrain"].is_done


def test_the_stamp_says_what_it_is_of(plan):
    run = plan("[track]\nepochs = 3")["track"]
    run.mark_done(2.5)
    found = json.loads(Path("runs/mine/done/track.json").read_text())
    assert found["settings"] == {"epochs": 3}
    assert (found["seconds"], found["fingerprint"]) == (2.5, run.fingerprint)
