"""The agreement of scores and runs, drawn from one run and from several, also where a score is constant."""

import numpy as np
import pandas as pd
import pytest

from hardness.dynamics.scores import SCORES
from hardness.figures import agreement
from hardness.findings import agreement as module


@pytest.fixture
def found(monkeypatch):
    """The table of runs with these settings; all forget the same."""
    monkeypatch.setattr(module, "RESAMPLES", 20)
    generator = np.random.default_rng(0)
    truth = generator.normal(size=60)

    def of(*settings) -> pd.DataFrame:
        tables = []
        for _ in settings:
            columns = {
                name: score.sign * (truth + generator.normal(size=60)) for name, score in SCORES.items()
            }
            columns["forgetting_events"] = np.ones(60)
            tables.append(pd.DataFrame({"example_id": np.arange(60), **columns}))
        runs = {f"run-{index}": setting for index, setting in enumerate(settings)}
        return agreement.prepare(module.agreement(tables, np.arange(60) % 3, runs))

    return of


RUNS = [{"seed": seed, "model": model} for model in ("mlp", "cnn") for seed in range(2)]


def cell(axes, row: int, column: int) -> str:
    return next(text.get_text() for text in axes.texts if text.get_position() == (column, row))


@pytest.mark.parametrize("runs", [RUNS[:1], RUNS[:2], RUNS])
def test_the_matrix_is_what_the_table_says(found, runs):
    table = found(*runs)
    figure = agreement.draw(table, "a title that goes on and on " * 8)
    matrix = figure.axes[0]
    names = [text.get_text() for text in matrix.get_yticklabels()]
    assert names == list(SCORES)
    values = table[table["kind"] == "scores"].set_index(["score_a", "score_b", "scope"])["spearman"]
    el2n, loss = names.index("el2n"), names.index("mean_loss")
    assert cell(matrix, el2n, loss) == f"{values['el2n', 'mean_loss', 'plain']:.2f}".removeprefix("0")
    assert cell(matrix, loss, el2n) == f"{values['el2n', 'mean_loss', 'within-class']:.2f}".removeprefix("0")
    assert cell(matrix, loss, names.index("forgetting_events")) == "–"
    assert "constant score" in figure.get_suptitle()
    assert "60 examples" in figure.get_suptitle()


def test_a_dot_and_its_range_are_over_the_pairs(found):
    table = found(*RUNS)
    (panel,) = (
        axes for axes in agreement.draw(table, "t").axes if axes.get_title() == "the same score in two runs"
    )
    labels = [line.get_label() for line in panel.lines if " " in line.get_label()]
    assert labels == [
        f"{d}, {s}" for d in ("seed", "model", "seed+model") for s in ("all examples", "within classes")
    ]
    shown = table[(table["differs"] == "model") & (table["scope"] == "within-class")]
    (dots,) = (line for line in panel.lines if line.get_label() == "model, within classes")
    assert np.allclose(dots.get_xdata(), shown["spearman"], equal_nan=True)
    places = dict(zip(shown["score_a"], dots.get_ydata(), strict=True))
    assert [round(places[name]) for name in SCORES] == list(range(len(SCORES)))
    assert [text.get_text() for text in panel.texts] == ["constant"]


def test_one_run_is_the_matrix_alone(found):
    figure = agreement.draw(found({}), "t")
    assert len(figure.axes) == 1
    assert "one run" in figure.get_suptitle()


def test_in_words(found):
    constant, scores, runs = module.agreement_words(found(*RUNS[:2])).sentences
    assert "forgetting_events" in constant
    assert scores.startswith("Two scores of one run: ")
    assert "differ in seed (1 pair): " in runs
    assert "nan" not in scores + runs
    assert len(module.agreement_words(found({})).sentences) == 2
