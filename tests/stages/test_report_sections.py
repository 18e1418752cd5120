"""What a report says of which runs, before anything is drawn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hardness.config import Score, Split, Track
from hardness.stages.report.section import Section
from hardness.stages.report.sections import all_sections
from hardness.stages.run_folder import finished_info
from hardness.stages.score import score
from hardness.stages.split import split
from hardness.stages.track import track


def sections_of(*runs: Path) -> dict[str, list[Section]]:
    """Question -> its sections."""
    found = {}
    for section in all_sections({run: finished_info(run) for run in runs}):
        found.setdefault(section.title, []).append(section)
    return found


def test_only_the_tracking_seed_may_differ_within_a_group(here):
    runs = [
        track(Track(epochs=1, seed=seed, schedule=schedule, out=here / f"{seed}{schedule}{copy}"))
        for seed, schedule, copy in (
            (0, "constant", ""),
            (1, "constant", ""),
            (1, "constant", "b"),
            (2, "cosine", ""),
        )
    ]
    sections = sections_of(*runs)
    learned = sections["When are examples first learned?"]
    assert [section.estimates["never learned"].num_seeds for section in learned] == [2, 1]
    assert "cosine" in learned[1].settings
    drawn = sections["Do the scores agree?"][0].drawings[0].table
    pairs = drawn[drawn["kind"] == "runs"].groupby("differs")["num_pairs"].unique().map(list)
    assert pairs.to_dict() == {"seed": [2], "schedule+seed": [3], "nothing": [1]}


def test_runs_of_one_data_set_and_its_labels_are_compared(here, tracked):
    other = track(Track(epochs=6, lr=0.005, model="small_cnn", seed=1, out=here / "<b>other"))
    noisy = track(Track(epochs=1, noise=0.5, out=here / "noisy"))
    sections = sections_of(tracked, other, noisy)
    compared = sections["Do the scores agree?"]
    assert [[each.name for each in section.drawings] for section in compared] == [
        ["agreement-1"],
        ["agreement-2"],
    ]
    assert "2 runs of mlp, small_cnn with sgdm" in compared[0].settings
    assert "of the labels corrupt, eval records, one run of mlp" in compared[1].settings
    assert any("differ in model+seed (1 pair)" in sentence for sentence in compared[0].words.sentences)
    one, two = (pd.read_parquet(run / "scores.parquet")["mean_loss"] for run in (tracked, other))
    drawn = compared[0].drawings[0].table.query("kind == 'runs' and scope == 'plain'")
    expected = one.corr(two, method="spearman")
    assert drawn.set_index("score_a")["spearman"]["mean_loss"] == pytest.approx(expected, abs=1e-5)
    # After one epoch nothing varies.
    assert compared[1].words.sentences[0].endswith("in at least one run: variability.")


def test_gradients_and_wrong_labels_are_told_where_they_are_known(here):
    settings = {"epochs": 3, "lr": 0.01, "noise": 0.3}
    looking = {"coherence_every": 1, "coherence_sample": 30}
    runs = [
        track(Track(**settings, **looking, seed=seed, noise_seed=seed, out=here / f"s{seed}"))
        for seed in (0, 1)
    ]
    # What is looked at changes nothing in what is learned: such runs are told together.
    plain = track(Track(**settings, seed=2, noise_seed=2, out=here / "s2"))
    sections = sections_of(*runs, plain)
    (gradients,) = sections["Do the gradients of easy examples agree?"]
    assert "label noise 0.3" in gradients.settings
    assert "30 examples of each group" in gradients.settings
    across = gradients.estimates["pristine - corrupt: over training"]
    tables = [pd.read_parquet(run / "coherence.parquet") for run in runs]
    by_hand = []
    for table in tables:
        rows = table[(table["layer"] == "whole network") & (table["epoch"] > 0)]
        means = rows.groupby("measured_on")["coherence"].mean()
        by_hand.append(means["pristine"] - means["corrupt"])
    assert across.mean == pytest.approx(np.mean(by_hand))
    assert across.num_seeds == 2
    (labels,) = sections["Which scores find the wrong labels?"]
    assert labels.estimates["aum: auroc"].num_seeds == 3
    assert labels.estimates["aum: auroc"].mean > 0.9
    assert [drawing.name for drawing in gradients.drawings + labels.drawings] == [
        "coherence-1",
        "label-errors-1",
    ]


def test_coherence_that_runs_do_not_share_is_no_obstacle(here):
    """One before training alone, one with other groups, one whose only corrupt example agrees with nobody."""
    common = {"epochs": 2, "noise": 0.3, "coherence_sample": 20}
    first = track(Track(**common, coherence_every=5, out=here / "first"))
    second = track(Track(**common, seed=1, checkpoint_every=2, out=here / "second"))
    split(Split(run=(second,), balance="class"))
    score(Score(run=(second,), coherence=True, coherence_sample=10))
    labels = pd.read_parquet(first / "examples.parquet")["clean_label"].copy()
    labels[0] = (labels[0] + 1) % 10
    pd.DataFrame({"example_id": range(1437), "label": labels}).to_csv(here / "one.csv", index=False)
    third = track(Track(epochs=1, given_labels=here / "one.csv", coherence_every=1, out=here / "third"))
    assert set(pd.read_parquet(third / "coherence.parquet")["measured_on"]) == {"train"}
    gradients = sections_of(first, second, third)["Do the gradients of easy examples agree?"]
    assert len(gradients) == 2
    assert gradients[0].estimates["easy - hard: over training"].num_seeds == 1


def test_several_ways_to_track_are_on_the_same_axes(here, tracked):
    other = track(Track(epochs=2, lr=0.005, model="small_cnn", out=here / "other"))
    (section,) = sections_of(tracked, other)["Side by side"]
    assert section.settings == "2 ways to track"
    table = section.drawings[0].table
    assert list(table["group"].unique()) == ["mlp, 6 epochs", "small_cnn, 2 epochs"]
    scores = pd.read_parquet(tracked / "scores.parquet")
    learned = table.query("group == 'mlp, 6 epochs' and value == 'learned' and epoch == 6")
    assert learned["mean"].tolist() == pytest.approx([scores["first_learned_epoch"].notna().mean()])
    assert "Side by side" not in sections_of(tracked)
