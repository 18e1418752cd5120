import dataclasses
import shutil
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch

import hardness
from hardness import datasets
from hardness.config import Data, Track
from hardness.dynamics.scores import FREE
from hardness.errors import UserError
from hardness.stages.run_folder import read_info, read_log
from hardness.stages.track import track
from hardness.training import checkpoint


def contents(run) -> dict[str, pd.DataFrame]:
    return {str(path.relative_to(run)): pd.read_parquet(path) for path in sorted(run.rglob("*.parquet"))}


@contextmanager
def cut_off(last_epoch: int = 3):
    """An interrupt after the records of that epoch, before its checkpoint."""
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


def test_the_first_learned_epoch_is_what_pandas_computes_by_itself(tracked):
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


def test_a_line_an_epoch_and_a_log_say_what_was_learned_so_far(here, capsys):
    with cut_off(), pytest.raises(KeyboardInterrupt):
        track(Track(epochs=4, noise=0.3, out=here / "r"))
    run = track(Track(epochs=4, noise=0.3, out=here / "r", resume=True))
    log = read_log(run)
    records = pd.read_parquet(run / "dynamics").astype({"epoch": int})
    right = records[records["prediction"] == records["given_label"]]
    expected = [right.query(f"epoch <= {epoch}")["example_id"].nunique() / 1437 for epoch in range(1, 5)]
    assert [line["learned"] for line in log] == expected
    assert expected[0] == log[0]["record_top1"] < expected[-1] < 1
    assert log[-1]["learned"] == pd.read_parquet(run / "scores.parquet")["first_learned_epoch"].notna().mean()
    told = capsys.readouterr().out
    assert (
        f"epoch 4/4: train loss {log[3]['train_loss']:.3f}, eval accuracy {log[3]['record_top1']:.3f}, "
        in told
    )
    assert f"learned so far {log[3]['learned']:.3f}, validation {log[3]['validation_top1']:.3f}, " in told
    assert "\x1b" not in told


@pytest.mark.parametrize("settings", [{}, {"optimizer": "rm3", "schedule": "cosine"}, {"record": "train"}])
def test_the_same_seed_is_the_same_bytes_and_an_interruption_changes_nothing(here, settings):
    whole = track(Track(epochs=4, lr=0.01, out=here / "whole", **settings))
    cut = Track(epochs=4, lr=0.01, out=here / "cut", **settings)
    with cut_off(), pytest.raises(KeyboardInterrupt):
        track(cut)
    assert read_info(here / "cut")["status"] == "interrupted"
    track(Track(epochs=4, lr=0.01, out=here / "cut", resume=True, **settings))
    assert_same(whole, here / "cut")
    for path in whole.rglob("*.parquet"):
        assert path.read_bytes() == (here / "cut" / path.relative_to(whole)).read_bytes()
    assert [line["epoch"] for line in read_log(here / "cut")] == [1, 2, 3, 4]


def test_the_first_epoch_is_made_again_where_there_is_no_checkpoint_yet(here, capfd):
    config = Track(epochs=2, out=here / "cut")
    with cut_off(1), pytest.raises(KeyboardInterrupt):
        track(config)
    assert not (here / "cut/checkpoints/last.pt").exists()
    track(dataclasses.replace(config, resume=True))
    assert f"dropped the records of 1 epoch in {here / 'cut'}\n" in capfd.readouterr().err
    assert_same(track(Track(epochs=2, out=here / "whole")), here / "cut")


def test_records_without_their_checkpoint_are_not_thrown_away(here):
    run = track(Track(epochs=3, out=here / "r"))
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"finished"', '"interrupted"'))
    (run / "checkpoints/last.pt").unlink()
    with pytest.raises(UserError, match=r"a checkpoint of epoch 3 or the one before .*found none"):
        track(Track(epochs=3, out=here / "r", resume=True))
    assert len(list((run / "dynamics").iterdir())) == 3
    assert len(read_log(run)) == 3


def test_a_network_that_recording_finds_broken_stops_the_run(here, monkeypatch):
    def broken(model, images, ids, *_):
        yield torch.tensor(ids), torch.full((len(ids), 10), torch.nan), images.given_labels[ids]

    monkeypatch.setattr("hardness.stages.track.predict", broken)
    with pytest.raises(UserError, match=r"epoch 1 .* 1437 with a loss that is not finite .*; lower --lr"):
        track(Track(epochs=1, out=here / "r"))


def test_records_are_rounded_unless_they_are_to_be_kept_whole(here):
    runs = [track(Track(epochs=1, precision=name, out=here / name)) for name in ("auto", "float32")]
    rounded, whole = (pd.read_parquet(run / "dynamics") for run in runs)
    for name in ("loss", "margin", "el2n"):
        assert np.array_equal(rounded[name], whole[name].astype(np.float16).astype(np.float32))
        assert not np.array_equal(rounded[name], whole[name])
    assert rounded["prediction"].equals(whole["prediction"])


def test_a_finished_run_is_left_as_it_is(tracked, tmp_path, capsys):
    copy = shutil.copytree(tracked, tmp_path / "copy")
    before = (copy / "run.json").read_bytes()
    track(Track(epochs=6, lr=0.005, out=copy))
    assert "finished already" in capsys.readouterr().out
    assert (copy / "run.json").read_bytes() == before


def test_label_noise_is_logged_and_correct_means_the_given_label(here):
    run = track(Track(epochs=1, noise=0.5, noise_seed=3, out=here / "r"))
    examples = pd.read_parquet(run / "examples.parquet")
    assert (examples["is_corrupt"] == (examples["given_label"] != examples["clean_label"])).all()
    assert read_info(run)["noise_rate"] == pytest.approx(examples["is_corrupt"].mean())
    assert examples["is_corrupt"].mean() == pytest.approx(0.45, abs=0.05)
    records = pd.read_parquet(run / "dynamics")
    assert records["given_label"].tolist() == examples["given_label"].tolist()


def test_real_noisy_labels_are_put_in_place(here):
    labels = pd.DataFrame({"example_id": np.arange(1437)[::-1], "label": np.arange(1437) % 10})
    labels.to_csv("labels.csv", index=False)
    run = track(Track(epochs=1, given_labels=here / "labels.csv", out=here / "r"))
    examples = pd.read_parquet(run / "examples.parquet")
    assert examples["given_label"].tolist() == (np.arange(1437)[::-1] % 10).tolist()


@pytest.mark.parametrize("cache", ["host", "none"])
def test_an_unreadable_image_is_recorded_as_null(image_folder, cache):
    (image_folder / "train/dog/2.png").write_text("no image")
    run = track(
        Track(
            data=f"imagefolder:{image_folder}",
            model="small_cnn",
            epochs=2,
            batch_size=6,
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


def test_a_checkpoint_holds_the_networks_own_normalisation(tracked):
    state = torch.load(tracked / "checkpoints/last.pt", weights_only=True)
    assert state["epoch"] == 6
    assert {"0.mean", "0.std", "1.1.weight"} <= state["model"].keys()
