"""What a plan costs: work counted by hand, and files as large as they become."""

import json
from pathlib import Path

import pytest

from hardness.console import duration
from hardness.recipes import rate
from hardness.recipes.cost import costs
from hardness.recipes.count import Passes, num_epochs, passes
from hardness.recipes.plan import expand
from hardness.recipes.recipe import read

DIGITS = (1437, 360, 10)
"""Training images, validation images, classes."""


@pytest.fixture
def plan(here):
    """Write a recipe -> its runs by name."""

    def write(text):
        Path("mine.toml").write_text(text)
        return expand(read(Path("mine.toml")))

    return write


@pytest.fixture
def known_rate(monkeypatch):
    """A second to train on an image, a tenth to evaluate one."""
    monkeypatch.setattr(rate, "measure", lambda *_: rate.Rate(1.0, 0.1, 1000))


def test_tracking_trains_on_all_and_records_all(plan):
    runs = plan("[track]\nepochs = 4")
    assert num_epochs(runs["track"]) == 4
    assert passes(runs["track"], *DIGITS) == Passes(4 * 1437, 4 * (1437 + 360))


def test_the_passes_of_training_are_recorded_for_free(plan):
    runs = plan('[track]\nepochs = 4\nrecord = "train"')
    assert passes(runs["track"], *DIGITS) == Passes(4 * 1437, 4 * 360)


def test_coherence_takes_three_trainings_a_gradient(plan):
    runs = plan("[track]\nepochs = 5\nnoise = 0.5\ncoherence_every = 2\ncoherence_sample = 10")
    # Before the first epoch, after 2 and 4; all, pristine and corrupt ones.
    assert passes(runs["track"], *DIGITS).trained == 5 * 1437 + 3 * (3 * 3 * 10)


def test_retraining_trains_on_each_subset(plan):
    runs = plan(
        """
        [track]
        epochs = 7
        [split]
        from = "track"
        controls = 2
        [retrain]
        from = "split"
        seeds = 3
        """
    )
    # easy, hard, random, two controls of each; as long as tracked.
    assert num_epochs(runs["retrain"]) == 7 * 3 * 7
    # A fifth is 287, of which a sixth is 48. Of all test examples, 1437 x 48 / 287 = 240.3, easy and hard are
    # two fifths; random and the first controls each leave four fifths of the rest: 1 - 0.6 x 0.8^3 = 0.6928.
    done = passes(runs["retrain"], *DIGITS)
    assert done.trained == 147 * 239
    # Before the first epoch as well.
    assert done.evaluated == pytest.approx((147 + 21) * (239 + 0.6928 * 240.3 + 360), rel=1e-3)


def test_the_papers_split_has_the_sizes_that_it_is_given(plan):
    runs = plan(
        """
        [track]
        epochs = 2
        [split]
        from = "track"
        rule = "learned-by"
        train_size = 500
        test_size = 100
        [retrain]
        from = "split"
        epochs = 3
        seeds = 1
        """
    )
    done = passes(runs["retrain"], 1200, 50, 10)
    # Easy and hard are all there is, and all of the tests are 200.
    assert done == Passes(15 * 500, (15 + 5) * (500 + 200 + 50))


def test_memorizing_measures_samples(plan):
    runs = plan('[memorize]\noptimizers = ["sgd", "m3"]\nnoise = [0.0, 0.5, 1.0]\nepochs = 4\nseeds = 3')
    run = runs["memorize"]
    assert num_epochs(run) == 2 * 3 * 3 * 4
    assert passes(run, *DIGITS) == Passes(72 * 1437, (4 + 1) * 18 * (1437 + 360))
    # Half of 999 in 1000 labels are corrupt at noise 0.5, at noise 1 all but one in 1000.
    measured = (50_000 + 0 + 50_000) + 3 * 50_000 + (1000 + 50_000 + 50_000)
    assert passes(run, 1_000_000, 7, 1000) == Passes(72_000_000, (4 + 1) * 6 * (measured + 3 * 7))


def test_scores_that_ask_the_network(plan):
    runs = plan(
        """
        [track]
        epochs = 6
        checkpoint_every = 2
        [score]
        from = "track"
        with = ["grand-last-layer", "self_confidence", "el2n_1_3"]
        coherence = true
        """
    )
    # Coherence before the first epoch, after 2, 4 and 6.
    assert passes(runs["score"], *DIGITS) == Passes(4 * 6 * 1437 + 3 * 5 * 256 * 4, 2 * 1437)
    assert num_epochs(runs["score"]) == 0


def test_a_split_that_is_there_says_what_is_trained(plan, split_file):
    runs = plan(f'[retrain]\nsplit = "{split_file}"\nseeds = 2')
    assert num_epochs(runs["retrain"]) == 5 * 2 * 6
    runs = plan('[retrain]\nsplit = "nowhere/splits/q.parquet"')
    assert num_epochs(runs["retrain"]) == 0
    assert costs(list(runs.values()))[runs["retrain"]].bytes == 0


def test_time_is_work_at_the_rate(plan, known_rate):
    runs = plan("[track]\nepochs = [2, 4]")
    two, four = (costs([runs[name]])[runs[name]] for name in ("track-epochs2", "track-epochs4"))
    assert four.seconds - two.seconds == pytest.approx(2 * 1437 + 0.1 * 2 * (1437 + 360))
    assert four.bytes - two.bytes == pytest.approx(2 * (7 * 1437 + 430), abs=2)


def test_what_is_done_of_a_run_is_left_out(plan, known_rate):
    run = plan("[track]\nepochs = 4")["track"]
    whole = costs([run])[run]
    run.folder.mkdir(parents=True)
    (run.folder / "log.jsonl").write_text((json.dumps({"epoch": 1}) + "\n") * 3)
    rest = costs([run])[run]
    assert rest.seconds - 2 == pytest.approx((whole.seconds - 2) / 4)
    assert rest.bytes == pytest.approx(whole.bytes / 4, rel=1e-3)


def test_kept_weights_are_counted_beside_those_of_the_optimizer(plan, known_rate):
    def size(optimizer, every):
        run = plan(f'[track]\nepochs = 4\noptimizer = "{optimizer}"\ncheckpoint_every = {every}')["track"]
        return costs([run])[run].bytes

    assert size("sgdm", 0) - size("sgd", 0) == 4 * 1000
    assert size("rm3", 0) - size("sgd", 0) == 2 * 4 * 1000
    # Before the first epoch, after 2 and 4.
    assert size("sgd", 2) - size("sgd", 0) == 3 * 4 * 1000


def test_images_are_counted_before_they_are_packed(plan, image_folder, known_rate):
    runs = plan(
        f"""
        [pack]
        data = "imagefolder:{image_folder}"
        size = 8
        [track]
        from = "pack"
        epochs = 2
        """
    )
    found = costs(list(runs.values()))
    assert found[runs["pack"]].bytes == (24 + 12) * 3 * 8 * 8
    assert 2 < found[runs["pack"]].seconds < 30
    assert found[runs["track"]].seconds == pytest.approx(2 + 2 * 24 + 0.1 * 2 * (24 + 12))
    assert not (image_folder.parent / "images.packed").exists()


def test_a_network_is_tried_out_once(plan, monkeypatch):
    tried = []
    monkeypatch.setattr(rate, "measure", lambda *settings: tried.append(settings[1:]) or rate.Rate(1, 1, 1))
    runs = plan('[track]\nseed = [0, 1]\nmodel = ["mlp", "small_cnn"]\n[memorize]\nbatch_size = 64')
    costs(list(runs.values()))
    assert sorted(network[0] for network in tried) == ["mlp", "small_cnn"]


def test_files_are_as_large_as_those_of_a_real_run(plan, tracked):
    run = plan("[track]\nepochs = 6\nlr = 0.005")["track"]
    found = costs([run])[run]
    real = sum(path.stat().st_size for path in tracked.rglob("*") if path.is_file())
    assert real / 2 < found.bytes < 2 * real
    assert 2 < found.seconds < 300


def test_time_is_said_as_one_would():
    assert [duration(seconds) for seconds in (0.2, 119, 700, 9000, 3_000_000)] == [
        "1 s",
        "119 s",
        "12 minutes",
        "2.5 hours",
        "35 days",
    ]
