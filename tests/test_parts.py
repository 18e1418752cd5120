import pytest

from hardness.parts import held_out, innermost_part, part_folders, part_of, without_part
from tests.conftest import refused


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("training", "train"),
        ("pets_train-00", "train"),
        ("train2017", "train"),
        ("val", "val"),
        ("imagenet1k-validation-00", "val"),
        ("partial-val", "val"),
        ("VALID", "val"),
        ("dev.clean", "val"),
        ("ValData", "val"),
        ("eval", "val"),
        ("mnist_test", "test"),
        ("testing", "test"),
        *(
            (name, None)
            for name in ("trainval", "values", "contest", "devices", "medieval", "latest", "0", "")
        ),
    ],
)
def test_whole_words_determine_the_part(name, part):
    assert part_of(name) == part


def test_two_parts_in_one_name_are_refused():
    with refused("several-parts-in-name", name="train_val", parts="train and val"):
        part_of("train_val")
    assert part_of("val-validation") == "val"


def test_the_innermost_name_decides():
    assert innermost_part(["test-data", "val", "cats"]) == "val"
    assert innermost_part(["train_val", "train"]) == "train"
    assert innermost_part([]) is None


def test_names_without_their_part():
    assert without_part("pets_train") == without_part("pets-val") == ["pets"]
    assert without_part("val") == []
    assert without_part("🐱") != without_part("🐶")


def test_test_images_are_held_out_if_there_is_no_validation_set():
    assert held_out(["train", "val", "test"]) == "val"
    assert held_out(["train", "test"]) == "test"
    assert held_out(["train"]) is None


def test_the_folders_of_an_image_folder(tmp_path):
    for name in ("training", "val", "extra", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "test.txt").touch()
    assert part_folders(tmp_path) == {
        "train": [tmp_path / "training"],
        "val": [tmp_path / "val"],
        "": [tmp_path / "extra"],
    }
    for name in ("train_small", "val_old"):
        (tmp_path / name).mkdir()
    assert part_folders(tmp_path)["train"] == [tmp_path / "training"]
    assert part_folders(tmp_path)["val"] == [tmp_path / "val"]
    assert part_folders(tmp_path)[""] == [tmp_path / each for each in ("extra", "train_small", "val_old")]
