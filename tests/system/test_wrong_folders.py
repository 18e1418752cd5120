"""A user's story: image files, some of them in the wrong folder, and a list of the suspects."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

NUM, CLASSES, WRONG = 600, 4, 20


@pytest.mark.slow
def test_images_in_wrong_folders_are_in_the_csv(here, hardness):
    generator = np.random.default_rng(0)
    patterns = generator.uniform(60, 200, (CLASSES, 8, 8, 3))
    for number in range(NUM + 80):
        label = number % CLASSES
        folder = label if number >= WRONG else (label + 1) % CLASSES
        pixels = patterns[label] + generator.normal(0, 45, (8, 8, 3))
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize((16, 16))
        path = here / "images" / ("train" if number < NUM else "val") / f"class{folder}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=90)
    hardness("track", "--data", "imagefolder:images", "--model", "small_cnn", "--epochs", 12, "--out", "run")
    hardness("labels", "--run", "run", "--top", 40, "--csv", "suspects.csv")
    suspects = pd.read_csv("suspects.csv")
    assert list(suspects["rank"]) == [*range(1, 41)]
    assert set(suspects["given_label"]) <= {f"class{label}" for label in range(CLASSES)}
    numbers = suspects["path"].str.extract(r"/(\d+)\.jpg$")[0].astype(int)
    assert all(Path(path).is_file() for path in suspects["path"])
    wrong = suspects[numbers < WRONG]
    assert len(wrong) >= 15
    right = "class" + (numbers[numbers < WRONG] % CLASSES).astype(str)
    assert (wrong["suggested_label"] == right).mean() > 0.8
