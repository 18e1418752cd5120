"""Small data and the real command line, for every test."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from hardness.errors import UserError
from tests import processes
from tests.processes import Answer

mpl.use("Agg")
# A loaded machine is slow, not wrong.
hypothesis.settings.register_profile("hardness", deadline=None)
hypothesis.settings.load_profile("hardness")


@pytest.fixture(autouse=True, scope="session")
def _start():
    torch.set_num_threads(1)
    processes.start_server()


@contextmanager
def refused(code: str, **values) -> Iterator[pytest.ExceptionInfo]:
    """The block raises a ``UserError`` with that code and, among its values, those."""
    with pytest.raises(UserError) as caught:
        yield caught
    error = caught.value
    assert error.code == code, error
    # One line, every place in which is filled.
    assert "\n" not in str(error)
    assert {name: error.values.get(name) for name in values} == values, error


def assert_refused(answer: Answer, code: str, *told: object) -> None:
    """The command line said in one line what is wrong, with those values, and exited with status 2."""
    assert answer.status == 2, answer
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("hardness: "), lines
    assert lines[0].endswith(f" [{code}]"), lines
    for value in told:
        assert str(value) in lines[0], (value, lines)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hardness(here, monkeypatch, capfd) -> Callable[..., Answer]:
    """The real command line, in this process, in an empty folder."""
    from hardness.cli import main

    def run(*words) -> Answer:
        monkeypatch.setattr(sys, "argv", ["hardness", *map(str, words)])
        capfd.readouterr()
        status = 0
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code
        return Answer(status, *capfd.readouterr())

    return run


def write_image(path: Path, seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> None:
    """A smooth random picture: a colour of the class folder's, with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """Three classes of eight training and four validation PNGs of 12 x 12."""
    root = tmp_path / "images"
    for number, name in enumerate(("cat", "dog", "eel")):
        for part, count in (("train", 8), ("val", 4)):
            for index in range(count):
                write_image(root / part / name / f"{index}.png", seed=100 * number + index)
    return root


@pytest.fixture(scope="session")
def tracked(tmp_path_factory) -> Path:
    """A trained run of six epochs on digits. Shared: tests copy it before they write to it."""
    from hardness.stages.track import Track, track

    return track(Track(epochs=6, lr=0.005, out=tmp_path_factory.mktemp("shared") / "tracked"))


@pytest.fixture(scope="session")
def made_run(tmp_path_factory) -> Path:
    """A run of track on digits, made without training. Shared: tests copy it before they write to it."""
    from tests.made_runs import tracked_run

    return tracked_run(tmp_path_factory.mktemp("shared") / "made")


@pytest.fixture(scope="session")
def split_file(tracked, tmp_path_factory) -> Path:
    """A split of a copy of ``tracked``."""
    from hardness.stages.split import Split, split

    return split(Split(run=(shutil.copytree(tracked, tmp_path_factory.mktemp("split") / "tracked"),)))


@pytest.fixture(scope="session")
def retrained(split_file, tmp_path_factory) -> Path:
    """A run of retrain on that split, made without training: two seeds of three epochs."""
    from tests.made_runs import retrained_run

    out = tmp_path_factory.mktemp("retrain") / "retrained"
    return retrained_run(out, split_file, seeds=2, epochs=3, lr=0.1)


@pytest.fixture(scope="session")
def memorized(tmp_path_factory) -> Path:
    """A run of memorize made without training: two seeds of three epochs, at two noise levels."""
    from tests.made_runs import memorized_run

    out = tmp_path_factory.mktemp("memorize") / "memorized"
    return memorized_run(out, noise=(0.5, 1.0), optimizers=("sgd", "m3", "rm3"))


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>gallery</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{% include "page.css" %}{% include "gallery.css" %}</style>
{% for gallery in galleries %}{% with gallery_id = "gallery-%d" % loop.index %}
{% include "gallery.html" %}{% endwith %}{% endfor %}<script>{% include "gallery.js" %}</script></html>"""


@pytest.fixture(scope="session")
def gallery_page() -> Callable[..., str]:
    """``gallery_page(gallery, ...)``: the least HTML page with those galleries."""
    import jinja2

    from hardness import page

    loaders = [jinja2.FileSystemLoader(Path(page.__file__).parent), jinja2.DictLoader({"page": _PAGE})]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return lambda *galleries: environment.get_template("page").render(galleries=galleries)
