import dataclasses
import shutil
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch

import hardness
from hardness import datasets
from hardness.config import Data
from hardness.dynamics.scores import FREE
from hardness.dynamics.store import recorded_epochs
from hardness.runs.reading import read_info, read_log
from hardness.stages.track import Track, track
from hardness.training import checkpoint
from tests.conftest import refused
from tests.made_runs import change_info, tracked_run

QUICK = {"batch_size": 256, "lr": 0.02}


def contents(run) -> dict[str, pd.DataFrame]:
    return {str(path.relative_to(run)): pd.read_parquet(path) for path in sorted(run.rglob("*.parquet"))}


@contextmanager
def interrupted(last_epoch: int):
    """Interrupt training after the records of that epoch, before its checkpoint."""
    save = checkpoint.save

    def save_or_stop(path, model, optimizer, epoch):
        if epoch == last_epoch:
            raise KeyboardInterrupt
        save(path, model, optimizer, epoch)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoint, "save", save_or_stop)
        yield


def assert_same(one, other):
    assert contents(one).keys() == contents(other).keys()
    for name, table in contents(one).items():
        pd.testing.assert_frame_equal(table, contents(other)[name])


def test_every_example_is_recorded_in_every_epoch(tracked):
    records = pd.read_parquet(tracked / "dynamics").astype({"epoch": int})
    assert len(records) == 6 * 1437
    assert (records.groupby("epoch")["example_id"].nunique() == 1437).all()
    for epoch in range(1, 7):
        ids = pd.read_parquet(tracked / f"dynamics/epoch={epoch}/part-0.parquet")["example_id"]
        assert ids.is_monotonic_increasing


def test_the_first_learned_epoch_equals_that_of_pandas(tracked):
    records = pd.read_parquet(tracked / "dynamics").astype({"epoch": int})
    right = records[records["prediction"] == records["given_label"]]
    expected = right.groupby("example_id")["epoch"].min().reindex(range(1437))
    found = pd.read_parquet(tracked / "scores.parquet").set_index("example_id")["first_learned_epoch"]
    assert found.isna().equals(expected.isna())
    assert (found.dropna() == expected.dropna()).all()
    assert 0 < expected.isna().sum() < 700


def test_the_folder_explains_itself(tracked):
    info = read_info(tracked)
    data = datasets.load(Data(), model="mlp")
    assert info["status"] == "finished"
    assert info["fingerprint"] == data.fingerprint
    assert info["record_mode"] == "eval"
    assert info["num_parameters"] == 85_002
    log = read_log(tracked)
    assert [line["epoch"] for line in log] == list(range(1, 7))
    assert log[-1]["validation_top1"] > log[0]["validation_top1"]
    assert {"train_loss", "record_top1", "step_norm", "seconds", "images_per_second"} <= log[0].keys()
    examples = pd.read_parquet(tracked / "examples.parquet")
    assert examples["key"].tolist() == list(data.train.keys)
    assert not examples["is_corrupt"].any()
    scores = pd.read_parquet(tracked / "scores.parquet")
    assert list(scores.columns) == ["example_id", *FREE]
    pd.testing.assert_frame_equal(hardness.scores(tracked), scores)


def test_the_log_and_one_line_per_epoch_give_the_share_learned_so_far(here, capsys):
    config = Track(epochs=3, noise=0.3, out=here / "r", **QUICK)
    with interrupted(2), pytest.raises(KeyboardInterrupt):
        track(config)
    run = track(dataclasses.replace(config, resume=True))
    log = read_log(run)
    records = pd.read_parquet(run / "dynamics").astype({"epoch": int})
    right = records[records["prediction"] == records["given_label"]]
    expected = [right.query(f"epoch <= {epoch}")["example_id"].nunique() / 1437 for epoch in range(1, 4)]
    assert [line["learned"] for line in log] == expected
    assert expected[0] == log[0]["record_top1"] < expected[-1] < 1
    assert log[-1]["learned"] == pd.read_parquet(run / "scores.parquet")["first_learned_epoch"].notna().mean()
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("epoch 3/3: ")]
    for name in ("train_loss", "record_top1", "learned", "validation_top1"):
        assert f" {log[2][name]:.3f}, " in line
    assert "\x1b" not in out


@pytest.mark.parametrize("settings", [{"optimizer": "rm3", "schedule": "cosine"}, {"record": "train"}])
def test_a_resumed_run_has_the_same_bytes_as_one_without_interruption(here, settings):
    whole = track(Track(epochs=3, out=here / "whole", **QUICK, **settings))
    config = Track(epochs=3, out=here / "cut", **QUICK, **settings)
    with interrupted(2), pytest.raises(KeyboardInterrupt):
        track(config)
    assert read_info(here / "cut")["status"] == "interrupted"
    track(dataclasses.replace(config, resume=True))
    assert_same(whole, here / "cut")
    for path in whole.rglob("*.parquet"):
        assert path.read_bytes() == (here / "cut" / path.relative_to(whole)).read_bytes()
    assert [line["epoch"] for line in read_log(here / "cut")] == [1, 2, 3]


def test_without_a_checkpoint_the_first_epoch_is_trained_again(here):
    config = Track(epochs=1, out=here / "cut", **QUICK)
    with interrupted(1), pytest.raises(KeyboardInterrupt):
        track(config)
    assert not (here / "cut/checkpoints/last.pt").exists()
    assert recorded_epochs(here / "cut") == [1]
    track(dataclasses.replace(config, resume=True))
    assert_same(track(dataclasses.replace(config, out=here / "whole")), here / "cut")


def test_records_without_their_checkpoint_are_kept(here):
    run = tracked_run(here / "r", epochs=3)
    change_info(run, status="interrupted")
    path = str(run / "checkpoints/last.pt")
    with refused("missing-checkpoint", path=path, epoch=3):
        track(Track(epochs=3, out=here / "r", resume=True))
    assert len(list((run / "dynamics").iterdir())) == 3
    assert len(read_log(run)) == 3


def test_a_loss_that_is_not_finite_when_recorded_stops_the_run(here, monkeypatch):
    def broken(model, images, ids, *_):
        yield torch.tensor(ids), torch.full((len(ids), 10), torch.nan), images.given_labels[ids]

    monkeypatch.setattr("hardness.stages.track.predict", broken)
    with refused("loss-not-finite") as caught:
        track(Track(epochs=1, out=here / "r", **QUICK))
    assert "1437" in caught.value.values["reason"]


def test_records_are_rounded_to_float16_unless_precision_is_float32(here):
    runs = [track(Track(epochs=1, precision=name, out=here / name, **QUICK)) for name in ("auto", "float32")]
    rounded, whole = (pd.read_parquet(run / "dynamics") for run in runs)
    for name in ("loss", "margin", "el2n"):
        assert np.array_equal(rounded[name], whole[name].astype(np.float16).astype(np.float32))
        assert not np.array_equal(rounded[name], whole[name])
    assert rounded["prediction"].equals(whole["prediction"])


def test_a_finished_run_is_left_as_it_is(tracked, tmp_path, capsys):
    copy = shutil.copytree(tracked, tmp_path / "copy")
    before = (copy / "run.json").read_bytes()
    track(Track(epochs=6, lr=0.005, out=copy))
    assert str(copy) in capsys.readouterr().out
    assert (copy / "run.json").read_bytes() == before


def test_label_noise_is_logged_and_records_are_of_the_given_labels(here):
    run = track(Track(epochs=1, noise=0.5, noise_seed=3, out=here / "r", **QUICK))
    examples = pd.read_parquet(run / "examples.parquet")
    assert (examples["is_corrupt"] == (examples["given_label"] != examples["clean_label"])).all()
    assert read_info(run)["noise_rate"] == pytest.approx(examples["is_corrupt"].mean())
    assert examples["is_corrupt"].mean() == pytest.approx(0.45, abs=0.05)
    records = pd.read_parquet(run / "dynamics")
    assert records["given_label"].tolist() == examples["given_label"].tolist()


def test_labels_of_a_file_replace_the_clean_ones(here):
    labels = pd.DataFrame({"example_id": np.arange(1437)[::-1], "label": np.arange(1437) % 10})
    labels.to_csv("labels.csv", index=False)
    run = track(Track(epochs=1, given_labels=here / "labels.csv", out=here / "r", **QUICK))
    examples = pd.read_parquet(run / "examples.parquet")
    assert examples["given_label"].tolist() == (np.arange(1437)[::-1] % 10).tolist()


@pytest.mark.parametrize("cache", ["host", "none"])
def test_an_unreadable_image_is_recorded_as_null(image_folder, cache):
    (image_folder / "train/dog/2.png").write_text("no image")
    run = track(
        Track(
            data=f"imagefolder:{image_folder}",
            model="mlp",
            epochs=2,
            batch_size=12,
            on_bad_image="null",
            cache=cache,
            workers=0,
            out=image_folder.parent / "r",
        )
    )
    assert read_info(run)["num_unreadable"] == 1
    records = pd.read_parquet(run / "dynamics")
    assert records[records["loss"].isna()]["example_id"].tolist() == [10, 10]
    scores = pd.read_parquet(run / "scores.parquet").set_index("example_id")
    assert read_log(run)[-1]["learned"] == scores["first_learned_epoch"].notna().sum() / 23
    assert scores.loc[10].isna().all()
    assert scores["aum"].isna().sum() == 1
    assert not pd.read_parquet(run / "examples.parquet")["is_readable"][10]


def test_a_checkpoint_includes_the_normalization_of_the_input(tracked):
    state = torch.load(tracked / "checkpoints/last.pt", weights_only=True)
    assert state["epoch"] == 6
    assert {"0.mean", "0.std", "1.1.weight"} <= state["model"].keys()
