import shutil

import pandas as pd
import pytest
import torch

import hardness
from hardness import Recorder, files
from hardness.runs.reading import read_info
from hardness.stages.retrain import Retrain, retrain
from hardness.stages.split import Split, split
from hardness.subsets import SUBSETS
from tests.conftest import refused, write_image
from tests.made_runs import change_info, tracked_run


@pytest.fixture
def run(made_run, tmp_path):
    return shutil.copytree(made_run, tmp_path / "run")


def test_the_easiest_and_the_hardest_fifth(run):
    path = split(Split(run=(run,)))
    assert path == run / "splits" / "q0.2.parquet"
    subsets = pd.read_parquet(path)
    assert list(subsets.columns) == ["example_id", "key", "label", "score", "subset", "fold"]
    assert subsets.groupby("subset").size().to_dict() == dict.fromkeys(SUBSETS, 287)
    assert not subsets.duplicated(["example_id", "subset"]).any()
    scores = pd.read_parquet(run / "scores.parquet")
    scores["rank"] = scores["first_learned_epoch"].fillna(99)
    order = scores.sort_values(["rank", "mean_loss", "example_id"])["example_id"].tolist()
    for name, ids in (("easy", order[:287]), ("hard", order[-287:])):
        assert subsets.loc[subsets["subset"] == name, "example_id"].tolist() == sorted(ids)
    assert subsets.groupby(["subset", "fold"]).size().unstack()["test"].eq(48).all()
    assert subsets.groupby("example_id")["fold"].nunique().eq(1).all()


def test_a_split_made_twice_has_the_same_bytes_and_other_settings_are_refused(run):
    path = split(Split(run=(run,)))
    before = path.read_bytes()
    split(Split(run=(run,)))
    assert path.read_bytes() == before
    with refused("other-split", path=str(path), setting="seed", found=0, value=1):
        split(Split(run=(run,), seed=1))
    assert path.read_bytes() == before
    other = split(Split(run=(run,), seed=1, name="other"))
    assert other.read_bytes() != before


def test_within_each_class_the_histograms_agree(run):
    path = split(Split(run=(run,), balance="class"))
    assert path.name == "q0.2-class.parquet"
    subsets = pd.read_parquet(path)
    histogram = pd.crosstab(subsets["label"], subsets["subset"])
    assert (histogram["easy"] == histogram["hard"]).all()
    assert (histogram["easy"] == histogram["easy-control"]).all()


def test_more_controls_are_added_to_the_very_same_subsets(run, capsys):
    one = pd.read_parquet(split(Split(run=(run,))))
    path = split(Split(run=(run,), controls=3))
    assert path.name == "q0.2-controls3.parquet"
    three = pd.read_parquet(path)
    pd.testing.assert_frame_equal(three[: len(one)], one)
    more = {f"{name}-control-{number}" for name in ("easy", "hard") for number in (2, 3)}
    assert set(three["subset"]) == {*SUBSETS, *more}
    assert three.groupby("example_id")["fold"].nunique().eq(1).all()
    histogram = pd.crosstab([three["label"], three["fold"]], three["subset"])
    assert (histogram["hard-control-3"] == histogram["hard"]).all()
    assert "\n2 more controls" in capsys.readouterr().out


def test_a_file_of_an_older_version_has_one_control(run):
    path = split(Split(run=(run,)))
    settings = files.table_settings(path)
    del settings["controls"]
    files.write_table(path, files.read_table(path), read_info(run)["fingerprint"], settings)
    with refused("other-split", setting="controls", found=1, value=2):
        split(Split(run=(run,), controls=2, name="q0.2"))
    split(Split(run=(run,)))
    assert files.table_settings(path)["controls"] == 1


@pytest.fixture
def run_with_duplicates(here):
    """Two classes of twenty images and a copy of each, and one unreadable image."""
    for number, name in enumerate(("cat", "dog")):
        for index in range(20):
            for copy in ("a", "b"):
                path = here / f"images/train/{name}/{index}{copy}.png"
                write_image(path, seed=100 * number + index, size=(32, 32))
        write_image(here / f"images/val/{name}/0.png", seed=number + 1000, size=(32, 32))
    (here / "images/train/dog/broken.png").write_bytes(b"not an image")
    return tracked_run(here / "run", data=f"imagefolder:{here / 'images'}", on_bad_image="null", epochs=1)


def test_dropped_duplicates_are_in_no_fold(run_with_duplicates, hardness):
    def by_image(name):
        subsets = pd.read_parquet(run_with_duplicates / f"splits/{name}.parquet")
        return subsets.groupby(subsets["key"].str[:-5])

    assert hardness("split", "--run", "run", "--quantile", 0.4).status == 0
    assert by_image("q0.4")["fold"].nunique().max() == 2
    answer = hardness("split", "--run", "run", "--quantile", 0.4, "--drop-twins", "--controls", 2)
    assert answer.status == 0
    assert " 40 of 80 images" in answer.out
    name = "q0.4-no-twins-controls2"
    assert by_image(name)["fold"].nunique().max() == 1
    assert by_image(name)["example_id"].nunique().max() == 1
    subsets = pd.read_parquet(run_with_duplicates / f"splits/{name}.parquet")
    # Of each pair, the image with the smaller id is kept.
    assert subsets["key"].str.endswith("a.png").all()
    assert subsets.groupby("subset").size().eq(16).all()
    found = files.table_settings(run_with_duplicates / f"splits/{name}.parquet")
    assert (found["drop_twins"], found["num_twins"]) == (True, 40)


def test_duplicates_are_dropped_from_pools_and_from_the_split_of_the_paper(run_with_duplicates, here):
    config = read_info(run_with_duplicates)["config"]
    images = {name: config[name] for name in ("data", "on_bad_image", "epochs")}
    other = tracked_run(here / "other", seed=1, **images)
    pooled = split(Split(run=(run_with_duplicates, other), quantile=0.5, drop_twins=True))
    assert pooled.name == "q0.5-pool2-no-twins.parquet"
    assert pd.read_parquet(pooled).groupby("subset").size().eq(20).all()
    sizes = {"epoch": 1, "train_size": 2, "test_size": 1}
    paper = split(Split(run=(run_with_duplicates,), rule="learned-by", **sizes, drop_twins=True))
    assert paper.name == "learned-by-1-no-twins.parquet"
    assert pd.read_parquet(paper)["key"].str.endswith("a.png").all()


def test_duplicates_are_searched_in_the_data_that_was_tracked(run_with_duplicates, here):
    expected = read_info(run_with_duplicates)["fingerprint"]
    (here / "images/train/cat/0a.png").rename(here / "images/train/cat/new.png")
    with refused("data-changed", expected=expected):
        split(Split(run=(run_with_duplicates,), drop_twins=True))


def test_sizes_ties_overlaps_and_class_histograms_are_printed(run, capsys):
    subsets = pd.read_parquet(split(Split(run=(run,))))
    out, err = capsys.readouterr()
    easy, control = (set(subsets.query("subset == @name")["example_id"]) for name in ("easy", "easy-control"))
    scores = pd.read_parquet(run / "scores.parquet")["first_learned_epoch"].fillna(99)
    easy_scores = scores[sorted(easy)]
    border = easy_scores.max()
    assert (scores[~scores.index.isin(easy)] == border).any()
    lines = [line.split() for line in out.splitlines()]
    assert ["easy", "239", "48", f"{(easy_scores == border).mean():.3f}"] in lines
    assert ["easy-control", "239", "48", f"{len(easy & control) / 287:.3f}"] in lines
    histogram = pd.crosstab(subsets["label"], subsets["subset"])[list(SUBSETS)]
    for label, counts in histogram.iterrows():
        assert [str(label), *map(str, counts)] in lines
    assert "class histograms" in err


def test_several_runs_pool(run, tmp_path):
    other = tracked_run(tmp_path / "other", epochs=2, seed=1)
    path = split(Split(run=(run, other)))
    assert path == run / "splits" / "q0.2-pool2.parquet"
    easy = pd.read_parquet(path).query("subset == 'easy'")
    both = [
        pd.read_parquet(r / "scores.parquet")["first_learned_epoch"].fillna(99).rank() for r in (run, other)
    ]
    mean_rank = sum(both) / 2
    assert easy["score"].tolist() == pytest.approx(mean_rank[easy["example_id"]].tolist())
    assert easy["score"].max() <= mean_rank.sort_values().iloc[286]


def test_the_papers_split(run):
    path = split(Split(run=(run,), rule="learned-by", epoch=2, train_size=100, test_size=20))
    subsets = pd.read_parquet(path)
    sizes = subsets.groupby(["subset", "fold"]).size().unstack()
    assert sizes["train"].eq(100).all()
    assert sizes["test"].eq(20).all()
    records = pd.read_parquet(run / "dynamics/epoch=2/part-0.parquet")
    correct = records["prediction"] == records["given_label"]
    assert correct[subsets.query("subset == 'easy'")["example_id"]].all()
    assert not correct[subsets.query("subset == 'hard'")["example_id"]].any()
    num_correct = int(correct.sum())
    with refused("too-few-examples", size=1020, correct=num_correct, wrong=1437 - num_correct):
        split(Split(run=(run,), rule="learned-by", epoch=2, train_size=1000, test_size=20, name="x"))
    with refused("epoch-not-recorded", epoch=7, num_epochs=6):
        split(Split(run=(run,), rule="learned-by", epoch=7, train_size=10, test_size=2, name="x"))


def test_the_papers_split_needs_eval_records(run):
    change_info(run, record_mode="train")
    with refused("not-eval-records", run=str(run), mode="train"):
        split(Split(run=(run,), rule="learned-by", epoch=2, train_size=10, test_size=2))


def test_runs_of_two_data_sets_do_not_pool(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    change_info(other, fingerprint="abc")
    with refused("runs-differ", run=str(other), found="abc", expected=read_info(run)["fingerprint"]):
        split(Split(run=(run, other)))


def test_the_public_function_reads_any_recorded_folder(run, tmp_path):
    subsets = hardness.split(run, quantile=0.1, by="aum", balance="class")
    assert set(subsets["subset"]) == set(SUBSETS)
    with Recorder(tmp_path / "mine", 60) as recorder:
        recorder.update(torch.arange(60), torch.randn(60, 3), torch.arange(60) % 3)
        recorder.end_epoch()
    subsets = hardness.split(tmp_path / "mine", quantile=0.5, by="mean_loss")
    assert subsets.groupby("subset").size().eq(30).all()
    assert subsets["key"].eq(subsets["example_id"].astype(str)).all()


@pytest.mark.parametrize("link", ["hard", "symbolic", "copy"])
def test_subsets_as_image_folders(image_folder, link):
    run = tracked_run(image_folder.parent / "r", data=f"imagefolder:{image_folder}", epochs=1, noise=0.5)
    target = image_folder.parent / "trees"
    path = split(Split(run=(run,), quantile=0.4, materialize=target, link=link))
    subsets = pd.read_parquet(path)
    for (subset, fold), members in subsets.groupby(["subset", "fold"]):
        tree = target / subset / ("train" if fold == "train" else "val")
        assert len(list(tree.glob("*/*.png"))) == len(members)
    row = subsets.iloc[0]
    names = ("cat", "dog", "eel")
    folder = target / "easy" / ("train" if row["fold"] == "train" else "val") / names[row["label"]]
    source = image_folder / row["key"]
    assert any(path.read_bytes() == source.read_bytes() for path in folder.iterdir())
    with refused("path-occupied", path=str(target), flag="--materialize"):
        split(Split(run=(run,), quantile=0.4, materialize=target, link=link))


def test_digits_have_no_files_to_link(run):
    with refused("needs-image-folder", flag="--materialize", data="digits"):
        split(Split(run=(run,), materialize=run / "trees"))
    assert not (run / "splits").exists()


def test_the_command_and_the_public_function_agree(tmp_path):
    run = tracked_run(tmp_path / "run", epochs=1, seed=1)
    written = pd.read_parquet(split(Split(run=(run,))))
    pd.testing.assert_frame_equal(hardness.split(run), written)


def test_pools_are_of_different_runs_with_the_same_labels_and_record_mode(run, tmp_path):
    with refused("repeated-run", runs=f"{run} {run}"):
        split(Split(run=(run, run)))
    for name, settings in (("noisy", {"noise": 0.5}), ("trained", {"record": "train"})):
        other = tracked_run(tmp_path / name, epochs=1, **settings)
        with refused("runs-differ", run=str(other), first=str(run)) as caught:
            split(Split(run=(run, other)))
        assert ("record mode" in str(caught.value)) == (name == "trained")
    others = [tracked_run(tmp_path / name, epochs=1, seed=1) for name in ("one", "two")]
    split(Split(run=(run, others[0])))
    with refused("other-split", setting="runs", found=["run", "one"], value=["run", "two"]):
        split(Split(run=(run, others[1])))


def test_images_of_the_same_name_in_subfolders_are_all_linked(image_folder):
    for part in ("a", "b"):
        (image_folder / "train/cat" / part).mkdir()
    for index in range(8):
        source = image_folder / f"train/cat/{index}.png"
        source.rename(image_folder / "train/cat" / "ab"[index % 2] / f"{index // 2}.png")
    run = tracked_run(image_folder.parent / "r", data=f"imagefolder:{image_folder}", epochs=1)
    target = image_folder.parent / "trees"
    path = split(Split(run=(run,), quantile=0.5, materialize=target, link="copy"))
    assert len(list(target.rglob("*.png"))) == len(pd.read_parquet(path))


def test_a_recorders_run_is_split_by_the_command_and_in_python(here):
    with Recorder(here / "mine", 60) as recorder:
        recorder.update(torch.arange(60), torch.randn(60, 2), torch.arange(60) % 2)
        recorder.end_epoch()
    path = split(Split(run=(here / "mine",), quantile=0.5))
    written = files.read_table(path).to_pandas()
    pd.testing.assert_frame_equal(written, hardness.split(here / "mine", quantile=0.5), check_dtype=False)


@pytest.fixture
def lopsided(here):
    """Twenty cats, and of dogs and eels two each."""
    for number, (name, count) in enumerate((("cat", 20), ("dog", 2), ("eel", 2))):
        for index in range(count):
            write_image(here / f"images/train/{name}/{index}.png", seed=100 * number + index)
        write_image(here / f"images/val/{name}/0.png", seed=number + 1000)
    return tracked_run(here / "run", data=f"imagefolder:{here / 'images'}", epochs=1)


def warnings(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("warning:") and "class" in line]


def test_small_classes_and_subsets_of_one_class_give_warnings(lopsided, capsys):
    split(Split(run=(lopsided,), balance="class"))
    one_class, left_out = warnings(capsys.readouterr().err)
    for words in ("easy, hard", "one class, cat"):
        assert words in one_class
    for words in ("2 classes", "fewer than 5 examples", "quantile 0.2", ": dog, eel"):
        assert words in left_out
    split(Split(run=(lopsided,), balance="class", quantile=0.5))
    assert not warnings(capsys.readouterr().err)


def test_the_public_function_gives_these_warnings_too(lopsided, capsys, here):
    hardness.split(lopsided, balance="class")
    one_class, left_out = warnings(capsys.readouterr().err)
    assert "one class, cat" in one_class
    assert left_out.endswith(": dog, eel")
    with Recorder(here / "mine", 60) as recorder:
        recorder.update(torch.arange(60), torch.randn(60, 80), torch.arange(60).clamp(max=30) % 31 + 9)
        recorder.end_epoch()
    hardness.split(here / "mine", by="mean_loss", balance="class")
    one_class, left_out = warnings(capsys.readouterr().err)
    assert "one class, 39" in one_class
    # A long list is shortened.
    assert "30 classes" in left_out
    assert left_out.endswith(", 28 and 10 more")


def test_a_split_of_one_class_is_not_retrained_on(lopsided, here):
    path = split(Split(run=(lopsided,), balance="class"))
    with refused("single-class-subset", subset="easy", split=str(path), label="cat"):
        retrain(Retrain(split=path, seeds=1, epochs=1, out=here / "retrained"))
    assert not (here / "retrained").exists()
