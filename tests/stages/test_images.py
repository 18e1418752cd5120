"""How images are read and at which precision a network computes: flags of every training stage."""

import json
import shutil

import pandas as pd
import pytest
import torch

from hardness.datasets.augment import CropFlip
from hardness.errors import UserError
from hardness.runs.reading import read_info, read_log
from hardness.stages.memorize import Memorize, memorize
from hardness.stages.pack import Pack, pack
from hardness.stages.retrain import Retrain, retrain
from hardness.stages.split import Split, split
from hardness.stages.track import Track, track
from tests.conftest import refused

SETTINGS = {"model": "small_cnn", "batch_size": 6, "workers": 0}


@pytest.fixture
def packed(image_folder):
    return f"packed:{pack(Pack(data=f'imagefolder:{image_folder}', workers=0))}"


@pytest.fixture
def crops(monkeypatch):
    """The calls of CropFlip: (shape of the images, shape of the crops)."""
    made, augment = [], CropFlip.__call__

    def spy(self, images, *where):
        crops = augment(self, images, *where)
        made.append((tuple(images.shape[1:]), tuple(crops.shape[1:])))
        return crops

    monkeypatch.setattr(CropFlip, "__call__", spy)
    return made


def test_training_uses_random_crops_and_records_use_the_center_crop(packed, crops, here):
    run = track(Track(data=packed, size=8, augment="crop-flip", epochs=2, out=here / "r", **SETTINGS))
    assert crops == [((3, 12, 12), (3, 8, 8))] * 8
    info = read_info(run)
    assert info["config"]["augment"] == "crop-flip"
    assert info["data"]["image_shape"] == [3, 8, 8]
    plain = track(Track(data=packed, size=8, epochs=2, out=here / "plain", **SETTINGS))
    losses = [pd.read_parquet(each / "dynamics/epoch=2/part-0.parquet")["loss"] for each in (run, plain)]
    assert not losses[0].equals(losses[1])
    again = track(Track(data=packed, size=8, augment="crop-flip", epochs=2, out=here / "again", **SETTINGS))
    for path in run.rglob("*.parquet"):
        assert path.read_bytes() == (again / path.relative_to(run)).read_bytes()


def test_a_size_above_that_of_the_pack_is_rejected(packed, here):
    with refused("size-above-packed", size=13, height=12, width=12):
        track(Track(data=packed, size=13, out=here / "r", **SETTINGS))


def test_retrain_uses_the_flags_of_the_tracked_run(packed, crops, here):
    flags = {"augment": "crop-flip", "precision": "bf16"}
    run = track(Track(data=packed, epochs=2, out=here / "r", **SETTINGS, **flags))
    crops.clear()
    path = split(Split(run=(run,), quantile=0.5, test_fraction=0.3))
    again = read_info(retrain(Retrain(split=path, seeds=1, epochs=1, workers=0, batch_size=4)))
    assert crops
    assert {name: again["config"][name] for name in flags} == flags
    assert again["precision"] == "bf16"
    crops.clear()
    other = retrain(Retrain(split=path, seeds=1, epochs=1, workers=0, batch_size=4, augment="none"))
    assert not crops
    assert read_info(other)["config"]["augment"] == "none"


@pytest.mark.parametrize(
    ("flag", "precision"), [("auto", "float32"), ("float32", "float32"), ("bf16", "bf16")]
)
def test_the_precision_is_in_run_json(here, flag, precision):
    run = track(Track(epochs=1, precision=flag, device="cpu"))
    assert read_info(run)["precision"] == precision
    loss = torch.tensor(pd.read_parquet(run / "dynamics/epoch=1/part-0.parquet")["loss"].to_numpy())
    # Records are rounded to float16 unless --precision float32 is given.
    assert torch.equal(loss, loss.half().float()) == (flag != "float32")


def test_a_run_cannot_be_resumed_in_another_precision(here):
    run = track(Track(epochs=1, out=here / "r", device="cpu"))
    info = (run / "run.json").read_text()
    (run / "run.json").write_text(
        info.replace('"finished"', '"interrupted"').replace('"precision": "float32"', '"precision": "bf16"')
    )
    with pytest.raises(UserError, match=r"bf16.*float32|float32.*bf16"):
        track(Track(epochs=1, out=here / "r", device="cpu", resume=True))


def test_memorize_uses_the_flags(here, crops):
    config = Memorize(
        noise=(0.5,), optimizers=("sgd",), epochs=1, precision="bf16", augment="crop-flip", device="cpu"
    )
    assert read_info(memorize(config))["precision"] == "bf16"
    assert crops


def test_winsorized_cannot_be_compiled():
    with pytest.raises(UserError, match=r"winsorized.*--compile|--compile.*winsorized"):
        Track(optimizer="winsorized", compile=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_runs_record_the_same(here):
    runs = [track(Track(epochs=3, compile=each, out=here / str(each))) for each in (False, True)]
    one, other = (pd.read_parquet(run / "dynamics/epoch=3/part-0.parquet") for run in runs)
    assert (one["loss"] - other["loss"]).abs().max() < 0.01
    assert (one["prediction"] == other["prediction"]).mean() > 0.995


def test_slow_data_loading_recommends_pack(image_folder, packed, here, capsys, monkeypatch):
    monkeypatch.setattr("hardness.training.job._SLOW_LOADING", 0.0)
    run = track(Track(data=f"imagefolder:{image_folder}", cache="none", epochs=2, out=here / "r", **SETTINGS))
    assert all(0 < line["loader_wait"] < 1 for line in read_log(run))
    assert capsys.readouterr().err.count("data loading takes") == 1
    track(Track(data=packed, epochs=1, out=here / "p", **SETTINGS))
    assert "data loading" not in capsys.readouterr().err


def test_retrain_may_use_a_pack_made_later(image_folder, here):
    shutil.rmtree(image_folder / "val")
    data = {"data": f"imagefolder:{image_folder}", "val_fraction": 0.25}
    run = track(Track(**data, cache="host", epochs=2, out=here / "r", **SETTINGS))
    path = split(Split(run=(run,), quantile=0.5, test_fraction=0.3))
    folder = pack(Pack(**data, workers=0))
    words = {"seeds": 1, "epochs": 1, "workers": 0, "batch_size": 4}
    curves = [
        pd.read_parquet(retrain(Retrain(split=path, **words, **where)) / "curves.parquet")
        for where in ({}, {"data": f"packed:{folder}"})
    ]
    pd.testing.assert_frame_equal(*curves)


def test_a_run_of_an_older_version_can_be_resumed(here):
    run = track(Track(epochs=1, out=here / "r", device="cpu"))
    info = json.loads((run / "run.json").read_text())
    for name in ("augment", "compile"):
        del info["config"][name]
    del info["precision"]
    (run / "run.json").write_text(json.dumps({**info, "status": "interrupted"}))
    track(Track(epochs=1, out=here / "r", device="cpu", resume=True))
    assert read_info(run)["status"] == "finished"
    (run / "run.json").write_text(json.dumps({**info, "status": "interrupted"}))
    with pytest.raises(UserError, match=r"augment.*(crop-flip.*none|none.*crop-flip)"):
        track(Track(epochs=1, out=here / "r", device="cpu", resume=True, augment="crop-flip"))
