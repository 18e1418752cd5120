import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy import stats

from hardness import Recorder, files
from hardness.dynamics import store
from hardness.dynamics.scores import SCORES
from hardness.errors import UserError
from hardness.runs.reading import read_info
from hardness.stages.score import Score, score
from hardness.stages.split import subsets_of
from hardness.subsets import SUBSETS
from tests.conftest import assert_refused, refused
from tests.made_runs import change_info, tracked_run


@pytest.fixture
def run(made_run, tmp_path):
    return shutil.copytree(made_run, tmp_path / "run")


@pytest.fixture
def copy(tracked, tmp_path):
    """A run with a network."""
    return shutil.copytree(tracked, tmp_path / "copy")


def test_scoring_again_gives_the_same_bytes(copy):
    before = (copy / "scores.parquet").read_bytes()
    (copy / "scores.parquet").unlink()
    assert score(Score(run=(copy,))) == copy / "scores.parquet"
    assert (copy / "scores.parquet").read_bytes() == before


def test_a_run_that_was_killed_is_scored_by_its_complete_epochs(run, capsys):
    (run / "scores.parquet").unlink()
    shutil.rmtree(run / "dynamics/epoch=6")
    # One of two ranks had written its part of the next epoch.
    whole = store.read_epoch(run, 5)
    columns = {name: getattr(whole, name)[:700] for name in store.SCHEMA.names[1:]}
    half = pa.table({"example_id": np.arange(700), **columns}).cast(store.SCHEMA)
    store.write_part(run, 6, half, read_info(run)["fingerprint"], part=0, num_parts=2)
    change_info(run, status="running")
    score(Score(run=(run,)))
    out, err = capsys.readouterr()
    assert "epoch 6 is incomplete" in err
    assert "epochs 1 to 5" in out
    table = pd.read_parquet(run / "scores.parquet")
    assert table["first_learned_epoch"].max() == 5
    change_info(run, status="finished")
    with refused("missing-part"):
        score(Score(run=(run,)))


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
    with refused("missing-record-column", column="margin"):
        score(Score(run=(here / "theirs",)))
    table.assign(loss="high").to_parquet(folder / "a.parquet")
    with refused("wrong-record-types"):
        score(Score(run=(here / "theirs",)))


def test_several_runs_are_pooled(image_folder, tmp_path, capsys):
    data = f"imagefolder:{image_folder}"
    run, other = (tracked_run(tmp_path / name, data=data, seed=seed) for seed, name in enumerate("ab"))
    capsys.readouterr()
    path = score(Score(run=(run, other)))
    assert path == run / "scores-pool2.parquet"
    one, two, pooled = (pd.read_parquet(p) for p in (run / "scores.parquet", other / "scores.parquet", path))
    assert pooled["aum_mean"].tolist() == pytest.approx(((one["aum"] + two["aum"]) / 2).tolist())
    expected = one["aum"].corr(two["aum"], method="spearman")
    out = capsys.readouterr().out
    assert f"{expected:.3f}" in next(line for line in out.splitlines()[::-1] if line.startswith("aum"))
    assert score(Score(run=(run, other))) == path
    third = shutil.copytree(other, tmp_path / "third")
    with refused("pool-of-other-runs", path=str(path), runs=f"{run} {other}"):
        score(Score(run=(run, third)))
    with refused("repeated-run"):
        score(Score(run=(run, run)))
    with pytest.raises(UserError):
        Score(run=(run,), out=tmp_path / "x.parquet")


def test_several_runs_are_compared(run, tmp_path, capsys):
    other = tracked_run(tmp_path / "other", seed=1)
    capsys.readouterr()
    path = score(Score(run=(run, other), out=tmp_path / "both/pool.parquet"))
    found = pd.read_parquet(path.with_name("pool-agreement.parquet"))
    assert files.table_settings(path.with_name("pool-agreement.parquet")) == {"runs": [str(run), str(other)]}
    num_scores = len(SCORES.keys() & set(pd.read_parquet(run / "scores.parquet")))
    pairs = 2 * num_scores * (num_scores - 1) // 2
    assert found.groupby("kind").size().to_dict() == {"runs": 2 * num_scores, "scores": 2 * pairs}
    runs = found[(found["kind"] == "runs") & (found["scope"] == "plain")].set_index("score_a")
    assert runs["differs"].eq("seed").all()
    one, two = (pd.read_parquet(folder / "scores.parquet") for folder in (run, other))
    assert runs["spearman"]["el2n"] == pytest.approx(stats.spearmanr(one["el2n"], two["el2n"]).statistic)
    out = capsys.readouterr().out
    assert "differ in seed (pairs: 1)" in out
    low, high = runs.loc["el2n", ["spearman_low", "spearman_high"]]
    assert f"{runs['spearman']['el2n']:.3f} [{low:.3f}, {high:.3f}]" in out


def test_runs_of_other_labels_do_not_pool(run, tmp_path):
    noisy = tracked_run(tmp_path / "noisy", epochs=1, noise=0.5)
    found = read_info(noisy)["labels_fingerprint"]
    with refused("runs-differ", run=str(noisy), first=str(run), found=found):
        score(Score(run=(run, noisy)))


def test_a_finished_run_that_has_lost_epochs_is_refused(run):
    before = (run / "scores.parquet").read_bytes()
    shutil.rmtree(run / "dynamics/epoch=6")
    with refused("lost-records", run=str(run), expected=6, found=5):
        score(Score(run=(run,)))
    assert (run / "scores.parquet").read_bytes() == before


def test_a_run_killed_before_its_first_epoch(run):
    shutil.rmtree(run / "dynamics")
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"fingerprint"', '"later"').replace("finished", "running"))
    with refused("no-records"):
        score(Score(run=(run,)))


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
    with refused("runs-differ", what="fingerprint of the given labels"):
        score(Score(run=(here / "a", here / "b")))
    with refused("runs-differ", what="fingerprint of the given labels"):
        score(Score(run=(here / "a", here / "c")))
    assert score(Score(run=(here / "a", here / "d"))).exists()
    out = capsys.readouterr().out
    assert "unknown settings (pairs: 1)" in out
    # Both are always right on examples 0, 1 and 2.
    assert "first_learned_epoch  constant" in out


def test_the_list_names_every_score(capsys):
    assert score(Score(list=True)) is None
    out = capsys.readouterr().out
    for name, each in SCORES.items():
        assert f"{name}: {'larger' if each.sign > 0 else 'smaller'} is harder" in out
        assert each.source in out


def test_a_folder_without_records(here):
    for folder in (here / "nowhere", here):
        with refused("not-a-run", run=str(folder)):
            score(Score(run=(folder,)))


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
    # They stay when the run is scored again, and can be used by split.
    assert hardness("score", "--run", copy).status == 0
    pd.testing.assert_frame_equal(pd.read_parquet(copy / "scores.parquet"), table)
    assert hardness("split", "--run", copy, "--by", "grand").status == 0


def add_network_score(run, epoch):
    """As if the network of that epoch had been scored."""
    table = pd.read_parquet(run / "scores.parquet").assign(grand_last_layer=1.0)
    settings = {"last_epoch": 6, "asked": {"grand_last_layer": epoch}}
    files.write_table(run / "scores.parquet", table, read_info(run)["fingerprint"], settings)


def test_scores_of_other_epochs_do_not_stay(run, hardness):
    add_network_score(run, epoch=6)
    assert hardness("score", "--run", run).status == 0
    assert "grand_last_layer" in pd.read_parquet(run / "scores.parquet")
    shutil.rmtree(run / "dynamics/epoch=6")
    change_info(run, status="interrupted")
    assert hardness("score", "--run", run).status == 0
    assert "grand_last_layer" not in pd.read_parquet(run / "scores.parquet")


def test_weights_of_an_epoch_and_coherence_of_subsets(hardness, here):
    words = ("--epochs", 4, "--checkpoint-every", 2, "--coherence-every", 2, "--coherence-sample", 40)
    assert hardness("track", "--batch-size", 256, *words, "--out", "r").status == 0
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
    answer = hardness("score", "--run", "r", "--with", "grand", "--epoch", 3)
    assert_refused(answer, "no-weights", "epoch=3.pt", "0, 2, 4")
    assert_refused(hardness("score", "--run", "r", "--coherence"), "no-split", "r/")
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
    # Rows of another split replace these; of several controls the first is measured.
    hardness("split", "--run", "r", "--balance", "class", "--controls", 2)
    assert hardness("score", "--run", "r", "--coherence", "--coherence-sample", 20).status == 0
    other = pd.read_parquet(here / "r/coherence.parquet")
    assert set(other["measured_on"]) == {*SUBSETS, "train"}
    assert set(other.loc[other["measured_on"] != "train", "num_examples"]) == {20}
    hardness("track", "--batch-size", 256, "--epochs", 1, "--seed", 5, "--out", "r5")
    split = ("--coherence", "--split", "r/splits/q0.2-class.parquet")
    answer = hardness("score", "--run", "r5", *split)
    assert_refused(answer, "split-of-other-run", "q0.2-class.parquet", [0], 5)
    # The same rows again: the sample depends on the run only.
    hardness("score", "--run", "r", *split, "--coherence-sample", 50)
    pd.testing.assert_frame_equal(pd.read_parquet(here / "r/coherence.parquet"), table)


def test_scores_of_weights_of_different_epochs_are_not_pooled(run, tmp_path, hardness):
    other = tracked_run(tmp_path / "other", seed=1)
    add_network_score(run, epoch=6)
    add_network_score(other, epoch=6)
    assert hardness("score", "--run", run, other).status == 0
    add_network_score(other, epoch=3)
    what = "epoch of the weights for grand_last_layer"
    for answer in (
        hardness("score", "--run", run, other),
        hardness("split", "--run", run, other, "--by", "grand_last_layer"),
    ):
        assert_refused(answer, "runs-differ", what, f"3 in {other}", f"6 in {run}")


def test_a_score_that_was_not_computed_is_refused(run, hardness):
    for by in ("grand", "el2n_1_2"):
        answer = hardness("split", "--run", run, "--by", by)
        assert_refused(answer, "not-scored", f"`hardness score --run {run} --with {by}`")
    with refused("score-needs-network"):
        subsets_of(run, by="grand")
    assert len(subsets_of(run, by="el2n_1_2")) == 5 * 287


def test_coherence_of_the_last_epoch_if_no_other_was_kept(copy, hardness):
    hardness("split", "--run", copy, "--balance", "class")
    answer = hardness("score", "--run", copy, "--coherence", "--coherence-sample", 20)
    assert "--checkpoint-every" in answer.err
    table = pd.read_parquet(copy / "coherence.parquet")
    assert set(table["epoch"]) == {6}
    # The easy and hard subsets of a small unbalanced split share no class.
    hardness("split", "--run", copy, "--quantile", 0.02)
    assert_refused(hardness("score", "--run", copy, "--coherence"), "too-few-matched-examples", "have 0")
    answer = hardness("score", "--run", copy, "--coherence", "--split", copy / "scores.parquet")
    assert_refused(answer, "not-a-split", copy / "scores.parquet")


def test_the_run_of_a_recorder_has_no_network(here, hardness):
    with Recorder(here / "mine", 4, "cpu") as recorder:
        recorder.update(torch.arange(4), torch.randn(4, 2), torch.tensor([0, 1, 0, 1]))
        recorder.end_epoch()
    assert_refused(hardness("score", "--run", "mine", "--with", "grand"), "no-network", "mine")


@pytest.mark.parametrize(
    "words",
    [
        ("--with", "gradn"),
        ("--with", "el2n_3_1"),
        ("--epoch", 3),
        ("--split", "x.parquet"),
        ("--coherence-sample", 1),
        ("--epoch", 1, "--with", "grand", "self-confidence"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(here, hardness, words):
    answer = hardness("score", *words)
    assert answer.status == 2
    assert len(answer.err.strip().splitlines()) == 1
    assert not list(here.iterdir())


def test_with_one_readable_class_every_score_is_a_number(image_folder, here, hardness):
    """Numbers for readable images, null for the others, and never nan."""
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
