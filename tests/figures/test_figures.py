"""Every figure draws its table, with labels, for one seed and for several."""

import numpy as np
import pandas as pd
import pytest

from hardness.figures import (
    coherence,
    controls,
    equal_pristine,
    first_learned,
    label_errors,
    noise_curves,
    style,
    subset_curves,
    transfer,
)
from hardness.label_errors import detection
from hardness.subsets import CONTROLS, SUBSETS
from hardness.verdicts import equal_pristine as read_across


def retraining(seeds, num_controls=1) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    more = [f"{name}-control-{number + 1}" for number in range(1, num_controls) for name in CONTROLS]
    index = pd.MultiIndex.from_product(
        [map(str, range(seeds)), [*SUBSETS, *more], range(2), range(4), (*SUBSETS, "validation", "train")],
        names=["tracking_seed", "trained_on", "seed", "epoch", "measured_on"],
    )
    return pd.DataFrame(generator.random((len(index), 2)), index, ["loss", "top1"]).reset_index()


def memorizing(seeds, levels=(0.0, 0.5)) -> pd.DataFrame:
    rows = []
    for noise in levels:
        for seed in range(seeds):
            for optimizer in ("sgd", "rm3", "mine"):
                for epoch in range(4):
                    top1 = {"pristine": 0.1 + 0.2 * epoch, "train": 0.1 * epoch, "validation": 0.2}
                    top1 |= {"corrupt": 0.1 * epoch + 0.01 * seed, "corrupt-clean": 0.3} if noise else {}
                    for measured_on, value in top1.items():
                        rows.append((optimizer, noise, seed, epoch, measured_on, 1 - value, value))
    columns = ["optimizer", "noise", "seed", "epoch", "measured_on", "loss", "top1"]
    return pd.DataFrame(rows, columns=columns)


def coherent(seeds) -> pd.DataFrame:
    rows = [
        (name, str(seed), epoch, loss - 0.3 * epoch, 0.1 * epoch)
        for seed in range(seeds)
        for name, loss in (("easy", 1.5), ("hard", 2.0))
        for epoch in range(4)
    ]
    return pd.DataFrame(rows, columns=["measured_on", "seed", "epoch", "mean_loss", "coherence"])


def detecting(seeds) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
    generator = np.random.default_rng(0)
    runs = {}
    for seed in range(seeds):
        is_corrupt = np.arange(40) % 3 == 0
        columns = {name: is_corrupt + generator.random(40) for name in ("mean_loss", "el2n", "last_loss")}
        runs[str(seed)] = pd.DataFrame({"example_id": range(40), **columns}), is_corrupt
    return runs


def cases(seeds):
    curves = memorizing(seeds)
    epochs = pd.Series(pd.array([1, 1, 2, 3, None], dtype="Int32"))
    yield first_learned, first_learned.prepare({str(seed): epochs for seed in range(seeds)}, 4)
    yield subset_curves, subset_curves.prepare(retraining(seeds))
    yield transfer, transfer.prepare(retraining(seeds))
    yield coherence, coherence.prepare(coherent(seeds))
    runs = detecting(seeds)
    yield label_errors, label_errors.prepare(pd.concat([detection(*run) for run in runs.values()]), runs)
    yield subset_curves, subset_curves.prepare(retraining(seeds, num_controls=3))
    yield transfer, transfer.prepare(retraining(seeds, num_controls=3))
    yield noise_curves, noise_curves.prepare(curves)
    yield noise_curves, noise_curves.prepare(curves[curves["noise"] == 0.5])
    yield equal_pristine, equal_pristine.prepare({0.5: read_across(curves[curves["noise"] == 0.5])})


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_figure_has_labels_and_is_saved_with_its_numbers(tmp_path, seeds):
    for number, (module, table) in enumerate(cases(seeds)):
        figure = module.draw(table, "a title that goes on and on " * 8)
        for axes in figure.axes:
            if axes.get_label() != "<colorbar>":
                assert axes.get_xlabel() or axes.get_subplotspec().rowspan.stop < axes.get_gridspec().nrows
                assert axes.get_ylabel() or axes.get_subplotspec().colspan.start > 0
        told = figure.get_suptitle()
        assert ("no interval" in told or "one tracking seed" in told) if seeds == 1 else "95 %" in told
        style.save(module.draw, table, "title", tmp_path / f"figure-{number}")
        assert (tmp_path / f"figure-{number}.png").stat().st_size > 10_000
        assert "<svg" in (tmp_path / f"figure-{number}.svg").read_text()
        assert len(pd.read_csv(tmp_path / f"figure-{number}.csv")) == len(table)


def test_the_same_table_is_the_same_svg(tmp_path):
    table = transfer.prepare(retraining(2))
    for name in ("a", "b"):
        style.save(transfer.draw, table, "title", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_first_learned_counts_by_hand():
    epochs = pd.Series(pd.array([1, 1, 3, None], dtype="Int32"))
    table = first_learned.prepare({"0": epochs}, 3)
    assert table["epoch"].tolist() == [1, 2, 3, 0]
    assert table["num_examples"].tolist() == [2, 0, 1, 1]
    assert table["cumulative_share"].tolist() == [0.5, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_control_is_a_dot_and_the_subset_a_mark(tmp_path, seeds):
    table = controls.prepare(retraining(seeds, num_controls=4))
    assert table.groupby(["tracking_seed", "subset"])["is_control"].sum().eq(4).all()
    panels = controls.draw(table, "a title").axes
    assert len(panels) == 2
    for axes, name in zip(panels, CONTROLS, strict=True):
        assert axes.get_xlabel()
        shown = table[table["subset"] == name]
        dots, own = axes.lines
        assert dots.get_ydata().tolist() == shown.loc[shown["is_control"], "top1"].tolist()
        assert len(set(dots.get_xdata())) == 4 * seeds
        assert own.get_ydata().tolist() == shown.loc[~shown["is_control"], "top1"].tolist()
        assert own.get_xdata().tolist() == list(range(seeds))
    assert panels[0].get_ylabel()
    style.save(controls.draw, table, "title", tmp_path / "figure")
    assert len(pd.read_csv(tmp_path / "figure.csv")) == len(table) == 2 * 5 * seeds


def test_controls_are_averaged_in_the_other_figures():
    curves = retraining(1, num_controls=3)
    last = curves[(curves["epoch"] == 3) & (curves["measured_on"] == "easy")]
    expected = last.loc[last["trained_on"].str.startswith("easy-control"), "top1"].mean()
    chosen = "trained_on == 'easy-control' and measured_on == 'easy'"
    assert transfer.prepare(curves).query(chosen)["mean"].tolist() == pytest.approx([expected])
    lines = subset_curves.prepare(curves).query(f"{chosen} and epoch == 3 and value == 'top1'")
    assert lines["mean"].tolist() == pytest.approx([expected])


def test_lines_are_what_the_table_says():
    table = noise_curves.prepare(memorizing(1, levels=(0.5,)))
    axes = noise_curves.draw(table, "t").axes[0]
    drawn = {tuple(line.get_ydata()) for line in axes.lines}
    assert tuple(0.1 + 0.2 * epoch for epoch in range(4)) in drawn


def test_colours_are_apart():
    names = ["sgd", "sgdm", "ra3", "m3", "rm3", "a", "b"]
    assert len(set(style.optimizer_colours(names).values())) == len(names)


@pytest.mark.parametrize(
    ("module", "table"), [(m, t) for m, t in cases(3) if m in (noise_curves, subset_curves)]
)
def test_no_line_leaves_its_panel(module, table):
    table = table.assign(**{name: table[name] * table["epoch"].rpow(2) for name in ("mean", "low", "high")})
    table.loc[table["value"] == "top1", ["mean", "low", "high"]] = 0.5
    for axes in module.draw(table, "t").axes:
        for line in axes.lines:
            assert len(line.get_ydata()) == 0 or max(line.get_ydata()) <= axes.get_ylim()[1]
