"""Every figure draws the numbers of its CSV, with labels, for one seed and for several.

A figure is a module of the package; one without a case here fails.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import hardness.figures
from hardness.figures import (
    controls,
    first_learned,
    noise_curves,
    style,
    subset_curves,
    tracking_curves,
    transfer,
)
from hardness.subsets import CONTROLS, SUBSETS
from tests.figures.made_up import inputs, retraining

MODULES = {
    module.name: importlib.import_module(f"hardness.figures.{module.name}")
    for module in pkgutil.iter_modules(hardness.figures.__path__)
    if module.name not in ("fonts", "style")
}
WITHOUT_INTERVALS = {"agreement", "controls", "data_map", "learned_by_class"}


def xy(rows: pd.DataFrame, x: str = "epoch", y: str = "mean") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of a table -> their points, and the ends of their intervals."""
    points = pd.DataFrame({"x": rows[x], "y": rows[y]})
    ends = [pd.DataFrame({"x": rows[x], "y": rows[end]}) for end in ("low", "high")]
    return points, pd.concat(ends).dropna()


def sideways(rows: pd.DataFrame, y: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return tuple(part.rename(columns={"x": "y", "y": "x"}) for part in xy(rows, y))


def cells(rows: pd.DataFrame, x: str, y: str, value: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.DataFrame({"x": rows[x], "y": rows[y], "value": rows[value]}).dropna(), pd.DataFrame()


def expected(name: str, table: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """A CSV -> for each panel of the figure the points to be drawn, and the ends of its intervals.

    Columns x, y, of images and hexagons value, of hexagons area. One that is left out is a matter of layout.
    """
    match name:
        case "agreement":
            names = list(dict.fromkeys([*table["score_a"], *table["score_b"]]))
            a, b = (table[column].map(names.index) for column in ("score_a", "score_b"))
            plain = table["scope"] == "plain"
            table = table.assign(x=b.where(plain, a), y=a.where(plain, b))
            yield cells(table[table["kind"] == "scores"], "x", "y", "spearman")
            if len(runs := table[table["kind"] == "runs"]):
                ends = pd.concat([runs["least"], runs["most"]])
                yield pd.DataFrame({"x": runs["spearman"]}), pd.DataFrame({"x": ends})
        case "coherence":
            for against in ("epoch", "mean_loss"):
                yield xy(table[table["against"] == against], "x")
        case "controls":
            for subset in CONTROLS:
                rows = table[table["subset"] == subset]
                means = rows[rows["is_control"]].groupby("tracking_seed")["top1"].mean()
                yield pd.DataFrame({"y": rows["top1"]}), pd.DataFrame({"y": means})
        case "data_map":
            size = 1 + np.log10(table["num_examples"])
            table = table.assign(area=size / size.max())
            points, _ = cells(table, "variability", "confidence", "first_learned_epoch")
            yield points.assign(area=table["area"]), None
        case "equal_pristine":
            for value in ("corrupt", "corrupt-clean"):
                yield xy(table[table["value"] == value], "pristine")
        case "first_learned":
            table = table.assign(epoch=table["epoch"].where(table["epoch"] > 0, 6.5))
            yield xy(table[table["value"] == "share"])
            yield xy(table[(table["value"] == "cumulative_share") & (table["epoch"] < 6)])
        case "tracking_curves":
            for dashes in tracking_curves.PANELS.values():
                yield xy(table[table["value"].isin(dashes)])
        case "forgetting":
            shares, means = (rows for _, rows in table.groupby("against", sort=False))
            yield xy(shares.assign(x=[*range(11), 12.5]), "x")
            yield xy(means.assign(x=means["x"].astype(int)), "x")
        case "label_errors":
            precision = table[table["value"] == "average_precision"].sort_values("mean")
            table = table.assign(place=table["score"].map(list(precision["score"]).index))
            yield sideways(table[table["value"].isin(["auroc", "average_precision"])], "place")
            yield xy(table[table["value"] == "precision"], "recall")[0], pd.DataFrame()
        case "learned_by_class":
            last = table["place"].max()
            number = min(3, last // 2)
            named = table[(table["place"] <= number) | (table["place"] > last - number)]
            by_epoch = table.groupby("epoch")["cumulative_share"]
            points = [named, by_epoch.mean().reset_index()]
            ends = pd.concat([by_epoch.quantile(share) for share in (0, 0.25, 0.75, 1)]).reset_index()
            columns = {"epoch": "x", "cumulative_share": "y"}
            yield tuple(part.rename(columns=columns)[["x", "y"]] for part in (pd.concat(points), ends))
        case "noise_curves":
            for value, groups in noise_curves.ROWS:
                for noise in sorted(table["noise"].unique()):
                    chosen = (table["value"] == value) & (table["noise"] == noise)
                    yield xy(table[chosen & table["measured_on"].isin(list(groups))])
        case "subset_bars":
            for _, rows in table.groupby("panel", sort=False):
                names = list(rows["quantity"].unique())
                place = rows["quantity"].map(names.index)
                group = rows["group"].map(list(rows["group"].unique()).index)
                yield sideways(rows.assign(y=group - 0.4 + (place + 0.5) * 0.8 / len(names)), "y")
        case "subset_curves":
            for value in ("top1", "loss"):
                for panel in subset_curves.PANELS:
                    yield xy(table[(table["value"] == value) & (table["panel"] == panel)])
        case "transfer":
            x = table["measured_on"].map(transfer.COLUMNS.index)
            yield cells(table.assign(x=x, y=table["trained_on"].map(SUBSETS.index)), "x", "y", "mean")


def drawn(axes: Axes) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same as ``expected``, read from what was drawn. Lines of the layout are in other coordinates."""
    points = [pd.DataFrame(columns=["x", "y"], dtype=float)]
    for line in axes.lines:
        if line.get_transform() is axes.transData:
            points.append(pd.DataFrame(line.get_xydata(), columns=["x", "y"]))
    for bars in axes.containers:
        if isinstance(bars, BarContainer):
            ends = [(bar.get_width(), bar.get_y() + bar.get_height() / 2) for bar in bars]
            if bars.orientation == "vertical":
                ends = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in bars]
            points.append(pd.DataFrame(ends, columns=["x", "y"]))
    for image in axes.images:
        values = np.ma.filled(image.get_array().astype(float), np.nan)
        points += [pd.DataFrame({"x": [x], "y": [y], "value": [v]}) for (y, x), v in np.ndenumerate(values)]
    ends = []
    for collection in axes.collections:
        corners = [path.vertices for path in collection.get_paths() if len(path.vertices)]
        if isinstance(collection, LineCollection) or collection.get_array() is None:
            ends += corners
        else:
            hexagons = np.array(corners)[:, :6]
            width, height = np.ptp(hexagons, axis=1).T
            centres = dict(zip("xy", hexagons.mean(1).T, strict=True))
            area = width * height / (width * height).max()
            points.append(pd.DataFrame({**centres, "value": collection.get_array(), "area": area}))
    ends = pd.DataFrame(np.concatenate([*ends, np.empty((0, 2))]), columns=["x", "y"])
    return pd.concat([part for part in points if len(part)] or points).dropna(), ends.dropna()


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Every row of the one is one of the other, to the digits of the CSV."""
    assert bool(len(found)) == bool(len(expected))
    if len(found):
        columns = list(expected.columns)
        apart = np.abs(found[columns].to_numpy()[:, None] - expected.to_numpy()[None]).max(2)
        assert apart.min(0).max() < 1e-4, "a number of the table was not drawn"
        assert apart.min(1).max() < 1e-4, "what was drawn is not in the table"


def keeping(draw: Callable[..., Figure]) -> tuple[Callable[..., Figure], list[Figure]]:
    """The same function, and a list of the figures that it draws."""
    figures = []

    def drawing(*args) -> Figure:
        figures.append(draw(*args))
        return figures[-1]

    return drawing, figures


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("name", MODULES)
def test_what_is_drawn_is_in_the_csv(tmp_path, monkeypatch, name, seeds):
    # The layout takes longest, and moves no number.
    monkeypatch.setattr(Figure, "draw_without_rendering", lambda figure: None)
    module = MODULES[name]
    draw, figures = keeping(module.draw)
    table = module.prepare(*inputs(name, seeds))
    style.save(draw, table, "a title that goes on and on " * 8, tmp_path / "figure", formats=())
    (figure,) = figures
    assert module.CAPTION.endswith(".")
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    for axes, (points, ends) in zip(
        panels, expected(name, pd.read_csv(tmp_path / "figure.csv")), strict=True
    ):
        found_points, found_ends = drawn(axes)
        assert len(found_points) == len(points)
        assert_same(found_points, points)
        if ends is not None:
            assert_same(found_ends, ends)
        assert axes.get_xlabel() or axes.get_subplotspec().rowspan.stop < axes.get_gridspec().nrows
        assert axes.get_ylabel() or axes.get_subplotspec().colspan.start > 0
    assert figure.get_figwidth() == style.WIDTH
    assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 8
    note = figure.get_suptitle().splitlines()[-1]
    if name not in WITHOUT_INTERVALS:
        assert ("no interval" in note or "one tracking seed" in note) if seeds == 1 else "95 %" in note


def draw_line(table: pd.DataFrame, title: str) -> Figure:
    figure = Figure(figsize=(style.WIDTH, 2))
    figure.subplots().plot(table["x"], table["y"], color="#0072B2")
    style.with_title(figure, title, "note")
    return figure


LINE = pd.DataFrame({"x": [0, 1, 2], "y": [0.5, 0.25, 1.0]})


def test_the_same_table_gives_the_same_files(tmp_path):
    for name in ("a", "b"):
        style.save(draw_line, LINE, "title", tmp_path / name, ("png", "svg", "pdf"))
    for suffix in ("png", "svg", "pdf", "csv"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert "<text" not in (tmp_path / "a.svg").read_text()
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"Date" not in pdf
    # Each font is embedded as TrueType: publishers reject Type 3.
    assert pdf.count(b"/Type /FontDescriptor") == pdf.count(b"/FontFile2 ") > 0
    assert b"/Type3" not in pdf


def test_a_png_has_the_pixels_of_the_figure(tmp_path):
    table = MODULES["transfer"].prepare(*inputs("transfer", 3))
    draw, figures = keeping(MODULES["transfer"].draw)
    style.save(draw, table, "title", tmp_path / "a")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.csv"}
    figures[0].savefig(tmp_path / "b.png", dpi=style.DPI)
    a, b = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"), int) for name in "ab")
    assert a.shape == b.shape
    assert np.abs(a - b).max() < 16


def test_first_learned_counts_by_hand():
    epochs = pd.Series(pd.array([1, 1, 3, None], dtype="Int32"))
    table = first_learned.prepare({"0": epochs, "1": epochs}, 3)
    shares = table[table["value"] == "share"]
    assert shares["epoch"].tolist() == [1, 2, 3, 0]
    assert shares["mean"].tolist() == [0.5, 0, 0.25, 0.25]
    assert table.loc[table["value"] == "cumulative_share", "mean"].tolist() == [0.5, 0.5, 0.75, 1.0]
    assert table["num_seeds"].eq(2).all()


@pytest.mark.parametrize("seeds", [1, 3])
def test_every_control_is_a_dot_and_the_subset_a_mark(seeds):
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


def test_controls_are_averaged_in_the_other_figures():
    curves = retraining(1, num_controls=3)
    last = curves[(curves["epoch"] == 3) & (curves["measured_on"] == "easy")]
    expected = last.loc[last["trained_on"].str.startswith("easy-control"), "top1"].mean()
    chosen = "trained_on == 'easy-control' and measured_on == 'easy'"
    assert transfer.prepare(curves).query(chosen)["mean"].tolist() == pytest.approx([expected])
    lines = subset_curves.prepare(curves).query(f"{chosen} and epoch == 3 and value == 'top1'")
    assert lines["mean"].tolist() == pytest.approx([expected])


def test_colors_are_apart():
    names = ["sgd", "sgdm", "ra3", "ra3-scaled", "m3", "rm3", "a", "b"]
    colors, others = (
        style.optimizer_legend(Figure(), pd.DataFrame({"optimizer": order})) for order in (names, names[::-1])
    )
    assert len(set(colors.values())) == len(names)
    assert colors == others


@pytest.mark.parametrize("name", ["noise_curves", "subset_curves"])
def test_no_line_leaves_its_panel(name):
    module = MODULES[name]
    table = module.prepare(*inputs(name, 3))
    growing = {end: table[end] * table["epoch"].rpow(2) for end in ("mean", "low", "high")}
    table = table.assign(**growing)
    table.loc[table["value"] == "top1", list(growing)] = 0.5
    for axes in module.draw(table, "t").axes:
        for line in axes.lines:
            assert len(line.get_ydata()) == 0 or max(line.get_ydata()) <= axes.get_ylim()[1]
