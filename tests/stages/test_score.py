import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy import stats

from hardness import Recorder, files
from hardness.config import Score, Track
from hardness.dynamics import store
from hardness.dynamics.scores import SCORES
from hardness.errors import UserError
from hardness.stages.run_folder import read_info
from hardness.stages.score import score
from hardness.stages.split import subsets_of
from hardness.stages.track import track
from hardness.subsets import SUBSETS


@pytest.fixture
def copy(tracked, tmp_path):
    return shutil.copytree(tracked, tmp_path / "copy")


def set_status(run, before, after):
    text = (run / "run.json").read_text()
    assert f'"status": "{before}"' in text
    (run / "run.json").write_text(text.replace(f'"status": "{before}"', f'"status": "{after}"'))


def test_scoring_again_gives_the_same_bytes(copy):
    before = (copy / "scores.parquet").read_bytes()
    (copy / "scores.parquet").unlink()
    assert score(Score(run=(copy,))) == copy / "scores.parquet"
    assert (copy / "scores.parquet").read_bytes() == before


def test_a_run_that_was_killed_is_scored_by_its_whole_epochs(copy, capsys):
    (copy / "scores.parquet").unlink()
    shutil.rmtree(copy / "dynamics/epoch=6")
    # Of the epoch under way one of two ranks had written its part.
    whole = store.read_epoch(copy, 5)
    columns = {name: getattr(whole, name)[:700] for name in store.SCHEMA.names[1:]}
    half = pa.table({"example_id": np.arange(700), **columns}).cast(store.SCHEMA)
    store.write_part(copy, 6, half, read_info(copy)["fingerprint"], part=0, num_parts=2)
    set_status(copy, "finished", "running")
    score(Score(run=(copy,)))
    told = capsys.readouterr()
    assert "epoch 6 is not whole: left out" in told.err
    assert "epochs 1 to 5" in told.out
    table = pd.read_parquet(copy / "scores.parquet")
    assert table["first_learned_epoch"].max() == 5
    set_status(copy, "running", "finished")
    with pytest.raises(UserError, match=r"2 parts in .*found no part-1\.parquet"):
        score(Score(run=(copy,)))


def test_records_of_another_program(here, capsys):
    for epoch in (1, 2, 3):
        folder = here / f"theirs/dynamics/epoch={epoch}"
        folder.mkdir(parents=True)
        ids = np.array([2, 0, 1])
        table = pd.DataFrame(
            {
                "example_id": ids,
                "given_label": [0, 1, 2],
                "prediction": [0, 1, 0] if epoch > 1 else [1, 1, 1],
                "loss": [0.5, 0.25, 2.0],
                "margin": [1.0, 2.0, -1.0],
                "el2n": [0.1, 0.2, 0.3],
                "something": ["else"] * 3,
            }
        )
        table[:2].to_parquet(folder / "a.parquet")
        table[2:].to_parquet(folder / "b.parquet")
    score(Score(run=(here / "theirs",)))
    found = pd.read_parquet(here / "theirs/scores.parquet")
    assert found["first_learned_epoch"].fillna(0).tolist() == [1, 0, 2]
    assert found["mean_loss"].tolist() == [0.25, 2.0, 0.5]
    table.drop(columns="margin").to_parquet(folder / "a.parquet")
    with pytest.raises(UserError, match="found no column margin"):
        score(Score(run=(here / "theirs",)))
    table.assign(loss="high").to_parquet(folder / "a.parquet")
    with pytest.raises(UserError, match="expected the types"):
        score(Score(run=(here / "theirs",)))


def test_several_runs_are_pooled(copy, tmp_path, capsys):
    other = track(Track(epochs=6, lr=0.005, seed=1, out=tmp_path / "other"))
    capsys.readouterr()
    path = score(Score(run=(copy, other)))
    assert path == copy / "scores-pool2.parquet"
    one, two, pooled = (pd.read_parquet(p) for p in (copy / "scores.parquet", other / "scores.parquet", path))
    assert pooled["aum_mean"].tolist() == pytest.approx(((one["aum"] + two["aum"]) / 2).tolist())
    expected = one["aum"].corr(two["aum"], method="spearman")
    told = capsys.readouterr().out
    assert f"{expected:.3f}" in next(line for line in told.splitlines()[::-1] if line.startswith("aum"))
    assert score(Score(run=(copy, other))) == path
    third = shutil.copytree(other, tmp_path / "third")
    with pytest.raises(UserError, match=r"choose another --out"):
        score(Score(run=(copy, third)))
    with pytest.raises(UserError, match="each run once"):
        score(Score(run=(copy, copy)))
    with pytest.raises(UserError, match="two runs or more with --out"):
        Score(run=(copy,), out=tmp_path / "x.parquet")


def test_several_runs_are_compared(copy, tmp_path, capsys):
    other = track(Track(epochs=6, lr=0.005, seed=1, out=tmp_path / "other"))
    capsys.readouterr()
    path = score(Score(run=(copy, other), out=tmp_path / "both/pool.parquet"))
    found = pd.read_parquet(path.with_name("pool-agreement.parquet"))
    assert files.table_settings(path.with_name("pool-agreement.parquet")) == {"runs": [str(copy), str(other)]}
    num_scores = len(SCORES.keys() & set(pd.read_parquet(copy / "scores.parquet")))
    pairs = 2 * num_scores * (num_scores - 1) // 2
    assert found.groupby("kind").size().to_dict() == {"runs": 2 * num_scores, "scores": 2 * pairs}
    runs = found[(found["kind"] == "runs") & (found["scope"] == "plain")].set_index("score_a")
    assert runs["differs"].eq("seed").all()
    one, two = (pd.read_parquet(run / "scores.parquet") for run in (copy, other))
    assert runs["spearman"]["el2n"] == pytest.approx(stats.spearmanr(one["el2n"], two["el2n"]).statistic)
    told = capsys.readouterr().out
    assert "Runs that differ in seed (pairs: 1)" in told
    low, high = runs.loc["el2n", ["spearman_low", "spearman_high"]]
    assert f"{runs['spearman']['el2n']:.3f} [{low:.3f}, {high:.3f}]" in told


def test_runs_of_other_labels_or_data_do_not_pool(copy, tmp_path):
    noisy = track(Track(epochs=1, noise=0.5, out=tmp_path / "noisy"))
    with pytest.raises(UserError, match="given labels"):
        score(Score(run=(copy, noisy)))


def test_a_finished_run_that_has_lost_epochs_is_refused(copy):
    before = (copy / "scores.parquet").read_bytes()
    shutil.rmtree(copy / "dynamics/epoch=6")
    with pytest.raises(UserError, match=r"records of 6 epochs in .*found epochs 1\.\.5"):
        score(Score(run=(copy,)))
    assert (copy / "scores.parquet").read_bytes() == before


def test_a_run_killed_before_its_first_epoch(copy):
    shutil.rmtree(copy / "dynamics")
    text = (copy / "run.json").read_text()
    (copy / "run.json").write_text(text.replace('"fingerprint"', '"later"').replace("finished", "running"))
    with pytest.raises(UserError, match=r"expected records in .*found none"):
        score(Score(run=(copy,)))


def record(run, labels):
    labels = torch.tensor(labels)
    with Recorder(run, len(labels)) as recorder:
        for _ in range(2):
            recorder.update(torch.arange(len(labels)), torch.eye(4)[: len(labels)], labels)
            recorder.end_epoch()


def test_recorders_of_different_examples_do_not_pool(here, capsys):
    record(here / "a", [0, 1, 2])
    record(here / "b", [0, 1, 2, 3])
    record(here / "c", [0, 2, 2])
    record(here / "d", [0, 1, 2])
    with pytest.raises(UserError, match=r"expected 3 examples in .*found 4"):
        score(Score(run=(here / "a", here / "b")))
    with pytest.raises(UserError, match=r"the given labels of .*found others, of example 1 first"):
        score(Score(run=(here / "a", here / "c")))
    assert score(Score(run=(here / "a", here / "d"))).exists()
    told = capsys.readouterr().out
    assert "Runs that differ in unknown settings (pairs: 1)" in told
    # Both are right on example 0, 1 and 2, always.
    assert "first_learned_epoch  constant" in told


def test_the_list_names_every_score(capsys):
    assert score(Score(list=True)) is None
    told = capsys.readouterr().out
    for name, each in SCORES.items():
        assert f"{name}: {'larger' if each.sign > 0 else 'smaller'} is harder" in told
        assert each.source in told


def test_a_folder_without_records(here):
    with pytest.raises(UserError, match="found no such folder"):
        score(Score(run=(here / "nowhere",)))
    with pytest.raises(UserError, match="found none"):
        score(Score(run=(here,)))


NETWORK = ("grand", "grand-last-layer", "prediction-depth", "prototypicality")


def test_scores_of_the_network_are_columns_beside_the_free_ones(copy, hardness):
    before = pd.read_parquet(copy / "scores.parquet")
    answer = hardness("score", "--run", copy, "--with", *NETWORK, "el2n_2_3")
    assert answer.status == 0, answer.err
    table = pd.read_parquet(copy / "scores.parquet")
    added = ["el2n_2_3", *(name.replace("-", "_") for name in NETWORK)]
    assert list(table.columns) == [*before.columns, *added]
    pd.testing.assert_frame_equal(table[before.columns], before)
    assert table[added].notna().all().all()
    assert table["grand"].corr(table["grand_last_layer"], "spearman") > 0.9
    # They stay when the run is scored again, and can be split by.
    assert hardness("score", "--run", copy).status == 0
    pd.testing.assert_frame_equal(pd.read_parquet(copy / "scores.parquet"), table)
    assert hardness("split", "--run", copy, "--by", "grand").status == 0


def test_what_belongs_to_other_epochs_does_not_stay(copy, hardness):
    hardness("score", "--run", copy, "--with", "grand-last-layer")
    shutil.rmtree(copy / "dynamics/epoch=6")
    set_status(copy, "finished", "interrupted")
    hardness("score", "--run", copy)
    assert "grand_last_layer" not in pd.read_parquet(copy / "scores.parquet")


def test_weights_of_an_epoch_and_coherence_of_subsets(hardness, here):
    words = ("--epochs", 4, "--checkpoint-every", 2, "--coherence-every", 2, "--coherence-sample", 40)
    assert hardness("track", "--lr", 0.005, *words, "--out", "r").status == 0
    assert sorted(path.name for path in (here / "r/checkpoints").iterdir()) == [
        "epoch=0.pt",
        "epoch=2.pt",
        "epoch=4.pt",
        "last.pt",
    ]
    columns = {}
    for epoch in (0, 4, None):
        flags = () if epoch is None else ("--epoch", epoch)
        assert hardness("score", "--run", "r", "--with", "grand-last-layer", *flags).status == 0
        columns[epoch] = pd.read_parquet(here / "r/scores.parquet")["grand_last_layer"]
    assert columns[4].equals(columns[None])
    assert not columns[0].equals(columns[4])
    assert (
        "found those of 0, 2, 4; name one"
        in hardness("score", "--run", "r", "--with", "grand", "--epoch", 3).err
    )

    assert "expected a split under r" in hardness("score", "--run", "r", "--coherence").err
    assert hardness("split", "--run", "r", "--balance", "class").status == 0
    before = pd.read_parquet(here / "r/coherence.parquet")
    assert set(before["measured_on"]) == {"train"}
    answer = hardness("score", "--run", "r", "--coherence", "--coherence-sample", 50)
    assert answer.status == 0, answer.err
    table = pd.read_parquet(here / "r/coherence.parquet")
    assert set(table["measured_on"]) == {*SUBSETS, "train"}
    whole = table[table["layer"] == "whole network"].set_index(["epoch", "measured_on"])
    assert (whole.loc[4, "num_examples"].drop("train") == 50).all()
    assert whole.loc[(4, "train"), "num_examples"] == 40
    assert sorted(set(table["epoch"])) == [0, 2, 4]
    assert whole.loc[(4, "easy"), "mean_loss"] < whole.loc[(4, "hard"), "mean_loss"]
    # Of another split nothing of the first one stays; of several controls the first is measured.
    hardness("split", "--run", "r", "--balance", "class", "--controls", 2)
    assert hardness("score", "--run", "r", "--coherence", "--coherence-sample", 20).status == 0
    other = pd.read_parquet(here / "r/coherence.parquet")
    assert set(other["measured_on"]) == {*SUBSETS, "train"}
    assert set(other.loc[other["measured_on"] != "train", "num_examples"]) == {20}
    hardness("track", "--lr", 0.005, "--epochs", 1, "--seed", 5, "--out", "r5")
    split = ("--coherence", "--split", "r/splits/q0.2-class.parquet")
    assert "found one of tracking seeds [0]; name its own" in hardness("score", "--run", "r5", *split).err
    # Measured again, the same rows: the sample is the run's own.
    hardness("score", "--run", "r", *split, "--coherence-sample", 50)
    pd.testing.assert_frame_equal(pd.read_parquet(here / "r/coherence.parquet"), table)


def test_scores_of_weights_of_different_epochs_are_not_pooled(copy, tmp_path, hardness):
    settings = ("--epochs", 6, "--lr", 0.005, "--checkpoint-every", 3)
    assert hardness("track", *settings, "--seed", 1, "--out", tmp_path / "other").status == 0
    runs = (copy, tmp_path / "other")
    assert hardness("score", "--run", *runs, "--with", "grand-last-layer").status == 0
    assert hardness("score", "--run", runs[1], "--with", "grand-last-layer", "--epoch", 3).status == 0
    answer = hardness("score", "--run", *runs)
    assert answer.status == 2
    assert "expected grand_last_layer of epoch 6" in answer.err
    answer = hardness("split", "--run", *runs, "--by", "grand_last_layer")
    assert answer.status == 2
    assert "found epochs 6, 3; score them alike" in answer.err


def test_a_score_that_is_not_there_is_said_wherever_it_is_asked_for(copy, hardness):
    for by in ("grand", "el2n_1_2"):
        answer = hardness("split", "--run", copy, "--by", by)
        assert answer.status == 2
        assert f"run `hardness score --run {copy} --with {by}` first" in answer.err
    with pytest.raises(UserError, match="expected scores that records tell; found grand"):
        subsets_of(copy, by="grand")
    assert len(subsets_of(copy, by="el2n_1_2")) == 5 * 287


def test_coherence_of_the_last_epoch_where_no_other_was_kept(copy, hardness):
    hardness("split", "--run", copy, "--balance", "class")
    answer = hardness("score", "--run", copy, "--coherence", "--coherence-sample", 20)
    assert "after the last epoch alone" in answer.err
    table = pd.read_parquet(copy / "coherence.parquet")
    assert set(table["epoch"]) == {6}
    # An unbalanced split of digits has easy classes and hard ones.
    hardness("split", "--run", copy, "--quantile", 0.02)
    answer = hardness("score", "--run", copy, "--coherence")
    assert answer.status == 2
    assert "found 0; split with --balance class" in answer.err
    assert (
        "expected a split's file"
        in hardness("score", "--run", copy, "--coherence", "--split", copy / "scores.parquet").err
    )


def test_a_recorders_run_has_no_network_to_ask(here, hardness):
    with Recorder(here / "mine", 4, "cpu") as recorder:
        recorder.update(torch.arange(4), torch.randn(4, 2), torch.tensor([0, 1, 0, 1]))
        recorder.end_epoch()
    answer = hardness("score", "--run", "mine", "--with", "grand")
    assert answer.status == 2
    assert "expected a run of track for --with and --coherence" in answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--with", "gradn"), "did you mean grand"),
        (("--with", "el2n_3_1"), "expected a score"),
        (("--epoch", 3), "expected a score of a network with --epoch"),
        (("--split", "x.parquet"), "expected --coherence with --split"),
        (("--coherence-sample", 1), "expected --coherence-sample of 2 or more"),
        (("--epoch", 1, "--with", "grand", "self-confidence"), "self-confidence, which trains its own"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(here, hardness, words, told):
    answer = hardness("score", *words)
    assert answer.status == 2
    assert told in answer.err
    assert "\n" not in answer.err.strip()


def test_a_run_with_one_class_left_after_bad_images_has_every_score(image_folder, here, hardness):
    """Numbers for what could be read, null for what could not, and no nan without a word."""
    for name in ("dog", "eel"):
        for path in (image_folder / "train" / name).iterdir():
            path.write_bytes(b"broken")
    data = ("--data", f"imagefolder:{image_folder}", "--on-bad-image", "null")
    settings = ("--epochs", 1, "--batch-size", 4, "--checkpoint-every", 1, "--coherence-every", 1)
    assert hardness("track", *data, *settings, "--out", "r").status == 0
    assert hardness("split", "--run", "r", "--quantile", 0.3).status == 0
    words = ("--with", *NETWORK, "self-confidence", "--coherence", "--coherence-sample", 2)
    answer = hardness("score", "--run", "r", *words)
    assert answer.status == 0, answer.err
    table = pd.read_parquet(here / "r/scores.parquet")
    # Folders in the order of their names: cats come first.
    is_null = table.drop(columns="example_id").isna()
    assert not is_null[:8].drop(columns=[n for n in SCORES if SCORES[n].null_is_hardest]).any().any()
    assert is_null[8:].all().all()
    assert pd.read_parquet(here / "r/coherence.parquet")["m_coherence"].notna().all()
    assert "nan" not in answer.out
