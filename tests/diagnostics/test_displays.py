"""What is drawn is what the numbers say: artists are read back and compared with independent slow references."""

import io
import subprocess
import sys
from functools import partial

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from sklearn.decomposition import PCA

from batchfix import ComBat, GroupCorrector, LinearCorrector
from batchfix.datasets import load_bladder, load_markets, load_microbes, make_lab
from batchfix.diagnostics.design import design_forecast
from batchfix.diagnostics.displays import (
    ComponentsDisplay,
    DesignDisplay,
    FeatureEffectsDisplay,
    ForecastDisplay,
    PCADisplay,
    RelativeLogExpressionDisplay,
    SectorIndexDisplay,
    VarianceDisplay,
)
from batchfix.diagnostics.displays.palette import look
from batchfix.diagnostics.displays.principal import Components
from batchfix.diagnostics.displays.words import short, short_names
from batchfix.diagnostics.effects import feature_effects
from batchfix.diagnostics.variance import VarianceExplained, variance_explained
from batchfix.exceptions import AlignmentError, BatchfixError

OF_TABLES = (PCADisplay, VarianceDisplay, ComponentsDisplay, RelativeLogExpressionDisplay, FeatureEffectsDisplay)
LAB = make_lab(60, 20, 3, batch_shift=1.5, confounding=0.5, random_state=0)
AFTER = LinearCorrector().fit_transform(LAB.data, batch=LAB.batch, keep=LAB.group)


def every_display():
    """One of each."""
    forecast = design_forecast(LAB.batch, LAB.group)
    markets = load_markets()
    yield from (display.from_tables(LAB.data, AFTER, batch=LAB.batch) for display in OF_TABLES)
    yield DesignDisplay.from_forecast(forecast)
    yield ForecastDisplay.from_forecast(forecast)
    yield SectorIndexDisplay.from_estimator(GroupCorrector(markets.sector), markets.returns)


def axes_of(display):
    return np.ravel(getattr(display, "axes_", getattr(display, "ax_", None)))


def png(figure, dpi=50):
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=dpi)
    return held.getvalue()


def offsets(ax):
    """Points of all scatters of an axes that hold any."""
    return np.concatenate([np.asarray(each.get_offsets()) for each in ax.collections])


def in_order(points):
    return points[np.lexsort(points.T)]


@pytest.fixture(scope="module")
def displays():
    """One of each, to look at only."""
    return list(every_display())


# ---- what all of them share


def test_every_display_has_a_figure_axes_and_words(displays):
    for display in displays:
        assert all(ax.figure.canvas.figure is display.figure_ for ax in axes_of(display))
        assert list(np.ravel(display.ax_)) == list(axes_of(display))
        assert display._repr_png_().startswith(b"\x89PNG")
        said = display.describe()
        assert said.endswith(".")
        assert any(letter.isdigit() for letter in said)
        assert str(display) == said


def test_drawn_twice_the_picture_is_the_same_and_nothing_is_left_in_pyplot_or_in_the_settings():
    figures, settings = plt.get_fignums(), mpl.rcParams.copy()
    for display in every_display():
        first = png(display.figure_)
        assert png(display.plot().figure_) == first
    assert plt.get_fignums() == figures
    assert mpl.rcParams == settings


def test_random_numbers_of_the_caller_are_left_alone():
    np.random.seed(0)  # noqa: NPY002 - the global state is what is looked at
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    PCADisplay.from_tables(LAB.data, batch=LAB.batch)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize("display", OF_TABLES)
def test_inputs_are_left_alone(display):
    data, after = LAB.data.copy(), AFTER.copy()
    display.from_tables(data, after, batch=LAB.batch)
    pd.testing.assert_frame_equal(data, LAB.data)
    pd.testing.assert_frame_equal(after, AFTER)


def test_axes_of_the_caller_are_used():
    for display in every_display():
        count = axes_of(display).size
        figure, axes = plt.subplots(count, 1, squeeze=False)
        try:
            display.plot(axes[:, 0])
            assert list(axes_of(display)) == list(axes[:, 0])
            assert display.figure_ is figure
            with pytest.raises(BatchfixError, match=r"ax must hold the axes of \d+ panels?, row by row, got 7"):
                display.plot([axes[0, 0]] * 7)
        finally:
            plt.close(figure)


@pytest.mark.parametrize("layout", ["constrained", None])
def test_one_axes_is_split_into_panels(layout):
    """All is drawn within it, next to what else the figure holds."""
    for display in every_display():
        count = axes_of(display).size
        figure, (left, right) = plt.subplots(1, 2, layout=layout, figsize=(12, 8))
        try:
            display.plot(ax=right)
            figure.draw_without_rendering()
            panels = axes_of(display)
            assert len(panels) == count
            assert display.figure_ is figure
            assert (right in panels) == (count == 1)
            assert all(panel.get_position().x0 > left.get_position().x1 for panel in panels)
            boxes = [panel.get_position() for panel in panels]
            assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
        finally:
            plt.close(figure)


def test_an_axes_put_by_hand_is_split_too():
    figure = plt.figure()
    try:
        ax = figure.add_axes((0.5, 0.1, 0.4, 0.8))
        display = PCADisplay.from_tables(LAB.data, AFTER, batch=LAB.batch, ax=ax)
        assert display.axes_.shape == (1, 2)
        places = [each.get_position() for each in display.axes_.flat]
        assert all(each.x0 >= 0.5 and each.x1 <= 0.9 + 1e-9 for each in places)
    finally:
        plt.close(figure)


def test_axes_of_a_subfigure_give_the_whole_figure():
    figure = plt.figure()
    try:
        ax = figure.subfigures(1, 2)[0].subplots()
        assert VarianceDisplay.from_tables(LAB.data, batch=LAB.batch, ax=ax).figure_ is figure
    finally:
        plt.close(figure)


def test_legends_cover_no_data(displays):
    many = make_lab(90, 5, 30, random_state=0)
    displays = [*displays, PCADisplay.from_tables(many.data, batch=many.batch)]
    found = 0
    for display in displays:
        figure = display.figure_
        figure.draw_without_rendering()
        boxes = [ax.get_window_extent() for ax in axes_of(display)]
        legends = [*figure.legends, *(each for sub in figure.subfigs for each in sub.legends)]
        for legend in legends:
            found += 1
            held = legend.get_window_extent()
            assert not any(held.overlaps(box) for box in boxes), type(display).__name__
            assert figure.bbox.x0 <= held.x0
            assert held.x1 <= figure.bbox.x1 + 1  # a pixel of rounding
    assert found >= 6


def test_text_takes_the_colour_of_the_page_it_is_drawn_on():
    with mpl.rc_context({"text.color": "white", "axes.edgecolor": "white", "figure.facecolor": "black"}):
        display = DesignDisplay.from_labels(["a", "a", "b", "b"], {"g": ["x", "x", "x", "y"]})
    zero = next(text for text in display.ax_.texts if text.get_text() == "0")
    assert to_hex(zero.get_color()) == "#ffffff"
    assert to_hex(display.figure_.get_facecolor()) == "#000000"


def test_matplotlib_is_asked_for_by_name_and_only_when_drawing():
    code = """
import sys
sys.modules["matplotlib"] = None
import batchfix.diagnostics.displays as displays
from batchfix.datasets import make_lab
lab = make_lab(20, 4, 2, random_state=0)
try:
    displays.PCADisplay.from_tables(lab.data, batch=lab.batch)
except ModuleNotFoundError as error:
    print(error.name, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "matplotlib batchfix.diagnostics.displays needs matplotlib: pip install 'batchfix[report]'\n"
    )


def test_importing_the_displays_imports_no_matplotlib():
    code = "import sys, batchfix.diagnostics.displays; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ---- tables side by side


@pytest.mark.parametrize("display", OF_TABLES)
def test_rows_and_columns_in_another_order_change_nothing(display):
    shuffled = AFTER.sample(frac=1, random_state=0)[list(AFTER.columns[::-1])]
    plain = display.from_tables(LAB.data, AFTER, batch=LAB.batch)
    assert display.from_tables(LAB.data, shuffled, batch=LAB.batch).describe() == plain.describe()


@pytest.mark.parametrize("display", OF_TABLES)
def test_labels_follow_their_index_though_the_table_after_has_none(display):
    labels = LAB.batch.sample(frac=1, random_state=1)
    plain = display.from_tables(LAB.data, AFTER, batch=LAB.batch)
    assert display.from_tables(LAB.data, AFTER.to_numpy(), batch=labels).describe() == plain.describe()


@pytest.mark.parametrize("display", OF_TABLES)
def test_arrays_are_taken_by_position(display):
    display.from_tables(LAB.data.to_numpy(), AFTER.to_numpy(), batch=LAB.batch.to_numpy())


@pytest.mark.parametrize("display", OF_TABLES)
def test_an_estimator_gives_the_table_it_gives(display):
    tables = display.from_tables(LAB.data, AFTER, batch=LAB.batch, **kept(display))
    unfitted = LinearCorrector()
    found = display.from_estimator(unfitted, LAB.data, batch=LAB.batch, keep=LAB.group)
    assert found.describe() == tables.describe()
    assert not hasattr(unfitted, "n_features_in_")
    keyed = LAB.data.assign(run=LAB.batch, group=LAB.group)
    by_key = display.from_estimator(LinearCorrector(batch_key="run", keep_keys=["group"]), keyed)
    assert by_key.describe() == tables.describe()


def kept(display):
    return {} if display is RelativeLogExpressionDisplay else {"keep": LAB.group}


def test_a_fitted_estimator_is_not_fitted_again():
    train, test = np.arange(60) < 40, np.arange(60) >= 40
    fitted = LinearCorrector().fit(LAB.data[train], batch=LAB.batch[train])
    display = FeatureEffectsDisplay.from_estimator(fitted, LAB.data[test], batch=LAB.batch[test])
    out = fitted.transform(LAB.data[test], batch=LAB.batch[test])
    wanted = feature_effects(out, LAB.batch[test]).eta2
    pd.testing.assert_series_equal(display.effects["after"].eta2, wanted)
    assert wanted.max() > 0.05  # and not the 0 that a fit to these very rows would leave


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (LAB.data.iloc[:, :5], "after must have the features of the table before"),
        (LAB.data.to_numpy()[:, :5], "after must be the same samples and features as before"),
        (LAB.data.iloc[:30], "The index of after must hold the rows"),
        ({"before": LAB.data}, "must have another name than 'before'"),
        (LAB.data * np.inf, "after must be finite"),
    ],
)
def test_tables_that_do_not_belong_together(after, words):
    for display in OF_TABLES:
        with pytest.raises(BatchfixError, match=words):
            display.from_tables(LAB.data, after, batch=LAB.batch)


def test_labels_that_do_not_belong():
    for display in OF_TABLES:
        with pytest.raises(AlignmentError, match="The index of batch must hold the rows of X"):
            display.from_tables(LAB.data, batch=LAB.batch.set_axis(range(60)))
        with pytest.raises(BatchfixError, match="batch must have two levels"):
            display.from_tables(LAB.data, batch=["a"] * 60)


@pytest.mark.parametrize("display", [PCADisplay, VarianceDisplay, ComponentsDisplay])
def test_what_cannot_be_had_is_said(display):
    with pytest.raises(BatchfixError, match="needs every value of every sample, got before with 1 missing"):
        display.from_tables(LAB.data.mask(LAB.data == LAB.data.iloc[0, 0]), batch=LAB.batch)
    with pytest.raises(BatchfixError, match="all constant"):
        display.from_tables(LAB.data * 0 + 3.1, batch=LAB.batch)


@pytest.mark.parametrize("display", [RelativeLogExpressionDisplay, FeatureEffectsDisplay])
def test_gaps_and_constants_are_drawn_where_they_can_be(display):
    holes = LAB.data.copy()
    holes.iloc[0] = np.nan
    holes.iloc[3:9, 2] = np.nan
    for table in (holes, LAB.data * 0 + 3.1, LAB.data.iloc[:, :1]):
        png(display.from_tables(table, table, batch=LAB.batch).figure_)


@pytest.mark.parametrize("display", OF_TABLES)
@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_the_unit_of_the_table_does_not_matter(display, scale):
    found = display.from_tables(LAB.data * scale, batch=LAB.batch)
    png(found.figure_)
    if display is not RelativeLogExpressionDisplay:  # which speaks in the table's unit
        assert found.describe() == display.from_tables(LAB.data, batch=LAB.batch).describe()


@pytest.mark.parametrize("display", OF_TABLES)
def test_names_are_no_formulas_and_no_secrets(display):
    batch = np.where(np.arange(60) % 2, "$x_{$", "_hidden")
    data = LAB.data.rename(columns={"f01": "$a$_\\b", "f02": "_f", "f03": "long " * 20})
    png(display.from_tables(data, batch=batch).figure_)


@pytest.mark.parametrize("n", [3, 4])
def test_few_samples(n):
    for display in OF_TABLES:
        png(display.from_tables(LAB.data.iloc[:n], batch=["a", "b", "a", "b"][:n]).figure_)


# ---- principal components


@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (40, 40)])
def test_components_are_those_of_scikit_learn(shape):
    X = np.random.default_rng(1).normal(size=shape) * np.linspace(1, 4, shape[1]) + 1e6
    ours, theirs = Components.of(X, 3), PCA(3, svd_solver="full").fit(X)
    # an offset of 1e6 leaves 1e-10 of each value
    np.testing.assert_allclose(ours.shares, theirs.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(np.abs(ours.scores(X)), np.abs(theirs.transform(X)), atol=1e-6)
    np.testing.assert_allclose(ours.directions.T @ ours.directions, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(ours.shares_in(X), ours.shares, rtol=1e-9)


def test_large_tables_have_the_same_leading_components(monkeypatch):
    X = LAB.data.to_numpy()
    exact = Components.of(X, 2)
    monkeypatch.setattr("batchfix.diagnostics.displays.principal.EXACT", 5)
    # random projections with 7 passes: the gap between components decides, here wide
    np.testing.assert_allclose(Components.of(X, 2).shares, exact.shares, rtol=1e-6)


def test_pca_draws_both_tables_on_the_components_of_the_first():
    display = PCADisplay.from_tables(LAB.data, AFTER, batch=LAB.batch, keep=LAB.group)
    assert display.axes_.shape == (2, 2)
    reference = PCA(2, svd_solver="full").fit(LAB.data.to_numpy())
    for column, table in enumerate((LAB.data, AFTER)):
        scores = reference.transform(table.to_numpy())
        name = ["before", "after"][column]
        sign = np.sign((display.scores[name].to_numpy() * scores).sum(axis=0))
        for row in range(2):
            drawn = in_order(offsets(display.axes_[row, column]))
            np.testing.assert_allclose(drawn, in_order(scores * sign), atol=1e-9)
        along = np.square(scores - scores.mean(axis=0)).sum(axis=0)
        total = np.square(table - table.mean()).to_numpy().sum()
        np.testing.assert_allclose(display.shares[name], along / total, rtol=1e-9)
    limits = {(ax.get_xlim(), ax.get_ylim()) for ax in display.axes_.flat}
    assert len(limits) == 1


def test_pca_colours_and_marks_samples_by_their_level():
    display = PCADisplay.from_tables(LAB.data, batch=LAB.batch)
    scores = display.scores["before"].to_numpy()
    for k, level in enumerate(sorted(LAB.batch.unique())):
        drawn = display.axes_[0, 0].collections[k]
        np.testing.assert_allclose(drawn.get_offsets(), scores[(LAB.batch == level).to_numpy()])
        assert to_hex(drawn.get_facecolor()[0]) == look(k).color.lower()
    words = [text.get_text() for text in display.figure_.subfigs[0].legends[0].get_texts()]
    assert words == ["b1", "b2", "b3"]


def test_pca_colours_a_number_by_its_value():
    age = np.linspace(20.0, 80.0, 60)
    display = PCADisplay.from_tables(LAB.data, batch=LAB.batch, keep={"age": age})
    (drawn,) = display.axes_[1, 0].collections
    place = {tuple(point): value for point, value in zip(display.scores["before"].to_numpy(), age, strict=True)}
    assert [place[tuple(point)] for point in drawn.get_offsets()] == drawn.get_array().tolist()


def test_pca_rows_line_up():
    """Panels of a number and of a factor stand below each other, to a hundredth of the picture's width."""
    age = np.linspace(20.0, 80.0, 60)
    display = PCADisplay.from_tables(LAB.data, AFTER, batch=LAB.batch, keep={"group": LAB.group, "age": age})
    display.figure_.draw_without_rendering()
    for column in display.axes_.T:
        places = [each.get_window_extent() for each in column]
        edges = np.array([[each.x0, each.x1] for each in places]) / display.figure_.bbox.width
        assert np.ptp(edges, axis=0).max() < 0.01
    assert display.axes_[2, 1].get_xlabel().startswith("PC1 of before (")
    assert display.axes_[2, 0].get_xlabel().startswith("PC1 (")


def test_pca_of_one_feature_stands_batches_beside_each_other():
    display = PCADisplay.from_tables(LAB.data.iloc[:, :1], batch=LAB.batch)
    assert list(display.scores["before"].columns) == ["PC1"]
    assert set(offsets(display.axes_[0, 0])[:, 1]) == {0.0, 1.0, 2.0}


def test_pca_of_a_crowd_is_rasterised_and_small():
    crowd = make_lab(30_000, 4, 12, random_state=0)
    display = PCADisplay.from_tables(crowd.data, batch=crowd.batch)
    points = display.axes_[0, 0].collections
    assert all(each.get_rasterized() for each in points)
    assert sum(len(each.get_offsets()) for each in points) == 30_000
    held = io.BytesIO()
    display.figure_.savefig(held, format="svg", dpi=100)
    assert held.tell() < 1_000_000


def test_thirty_batches_look_different_and_fit_a_legend():
    looks = {(look(k).color, look(k).marker) for k in range(49)}
    assert len(looks) == 49
    many = make_lab(90, 5, 30, random_state=0)
    batch = "plate_of_2024_machine_7_" + many.batch
    display = PCADisplay.from_tables(many.data, batch=batch)
    words = [text.get_text() for text in display.figure_.subfigs[0].legends[0].get_texts()]
    assert len(set(words)) == 30
    assert max(map(len, words)) <= 22


def test_a_legend_of_a_hundred_says_how_many_it_leaves_out():
    many = make_lab(300, 5, 100, random_state=0)
    display = PCADisplay.from_tables(many.data, batch=many.batch)
    words = [text.get_text() for text in display.figure_.subfigs[0].legends[0].get_texts()]
    assert len(words) == 40
    assert words[-1] == "and 61 more"


# ---- variance


@pytest.mark.parametrize("adjusted", [False, True])
def test_variance_bars_are_the_shares_and_end_at_one(adjusted):
    bladder = load_bladder()
    labels = {"batch": bladder.samples["batch"], "keep": bladder.samples["cancer"]}
    after = ComBat(mean_only=True).fit_transform(bladder.data, **labels)
    display = VarianceDisplay.from_tables(bladder.data, after, **labels, adjusted=adjusted)
    assert list(display.bars_) == ["batch", "cancer", "shared", "residual"]
    for row, table in enumerate((bladder.data, after)):
        wanted = variance_explained(table, **labels).table["R2_adjusted" if adjusted else "R2"]
        drawn = pd.Series({part: bars[row].get_width() for part, bars in display.bars_.items()})
        np.testing.assert_allclose(drawn, wanted[drawn.index], atol=1e-12)
        assert drawn.sum() == pytest.approx(1.0, abs=1e-9)
    hatches = {bars[0].get_hatch() for part, bars in display.bars_.items() if part in ("batch", "cancer")}
    assert len(hatches) == 2


def test_a_negative_share_stands_left_of_zero():
    # two factors that mask each other: each explains nothing alone, both together everything
    a, b = np.array([0, 0, 1, 1, 0, 1] * 4), np.array([0, 0, 1, 1, 1, 0] * 4)
    x = (a - b)[:, None] + np.random.default_rng(0).normal(0, 0.05, (24, 3))
    display = VarianceDisplay.from_tables(x, batch=a.astype(str), keep={"g": b.astype(str)})
    shared = display.bars_["shared"][0]
    assert shared.get_width() < -0.05
    assert display.ax_.get_xlim()[0] == pytest.approx(shared.get_x() + shared.get_width())
    drawn = [bars[0] for part, bars in display.bars_.items() if part != "shared"]
    ends = [bar.get_x() + bar.get_width() for bar in drawn]
    np.testing.assert_allclose([bar.get_x() for bar in drawn], [0.0, *ends[:-1]])


def test_negative_shares_stand_beside_each_other():
    shares = {"batch": -0.1, "g": 0.4, "shared": -0.2, "residual": 0.9}
    table = pd.DataFrame({"R2": shares, "R2_adjusted": shares})
    display = VarianceDisplay({"before": VarianceExplained(table, table, ("batch", "g"))}).plot()
    drawn = {part: sorted((bar.get_x(), bar.get_x() + bar.get_width())) for part, (bar,) in display.bars_.items()}
    wanted = {"batch": [-0.1, 0.0], "g": [0.0, 0.4], "shared": [-0.3, -0.1], "residual": [0.4, 1.3]}
    assert drawn == {part: pytest.approx(ends) for part, ends in wanted.items()}
    assert display.ax_.get_xlim() == pytest.approx((-0.3, 1.3))


# ---- components


def test_components_hold_the_r2_of_each_column_alone():
    age = np.random.default_rng(0).normal(50, 9, 60)
    keep = pd.DataFrame({"group": LAB.group, "age": age}, index=LAB.data.index)
    display = ComponentsDisplay.from_tables(LAB.data, AFTER, batch=LAB.batch, keep=keep, n_components=4)
    scores = PCA(4, svd_solver="full").fit_transform(LAB.data.to_numpy())
    for j in range(4):
        score = pd.Series(scores[:, j], index=LAB.data.index)
        for name, labels in (("batch", LAB.batch), ("group", LAB.group)):
            between = score.groupby(labels).transform("mean").var() / score.var()
            assert display.R2["before"].loc[name, f"PC{j + 1}"] == pytest.approx(between, abs=1e-9)
        assert display.R2["before"].loc["age", f"PC{j + 1}"] == pytest.approx(np.corrcoef(score, age)[0, 1] ** 2)
    own = pd.Series(PCA(1, svd_solver="full").fit_transform(AFTER.to_numpy())[:, 0], index=LAB.data.index)
    between = own.groupby(LAB.group).transform("mean").var() / own.var()
    assert display.R2["after"].loc["group", "PC1"] == pytest.approx(between, abs=1e-9)  # a table's own components
    bars = [bar.get_height() for bar in display.axes_[0, 0].patches]
    np.testing.assert_allclose(bars, PCA(4).fit(LAB.data.to_numpy()).explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_array_equal(display.axes_[1, 1].images[0].get_array(), display.R2["after"])
    assert display.axes_[0, 0].get_ylim() == display.axes_[0, 1].get_ylim()


def test_no_more_components_than_there_are():
    display = ComponentsDisplay.from_tables(LAB.data.iloc[:3], batch=["a", "b", "a"])
    assert display.R2["before"].shape == (1, 2)
    with pytest.raises(BatchfixError, match="n_components must be a whole number of at least 1"):
        ComponentsDisplay.from_tables(LAB.data, batch=LAB.batch, n_components=0)


# ---- relative log expression


def test_boxes_are_quantiles_of_deviations_from_each_features_median():
    data = LAB.data.mask(np.random.default_rng(0).random(LAB.data.shape) < 0.1)
    display = RelativeLogExpressionDisplay.from_tables(data, AFTER, batch=LAB.batch)
    boxes = display.boxes["before"]
    deviations = (data - data.median()).T.quantile([0.05, 0.25, 0.5, 0.75, 0.95]).T
    np.testing.assert_allclose(boxes, deviations.loc[boxes.index], rtol=1e-12, atol=1e-12)
    assert LAB.batch[boxes.index].is_monotonic_increasing
    ax = display.axes_[0]
    bars = sorted(ax.patches, key=lambda bar: bar.get_x())
    np.testing.assert_allclose([bar.get_y() for bar in bars], boxes["q1"])
    np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in bars], boxes["q3"])
    assert len({each.get_ylim() for each in display.axes_}) == 1
    low, high = ax.get_ylim()
    assert low == -high


@pytest.mark.parametrize(
    "sizes", [[20, 5, 5, 1], [30, 1, 1, 1, 1, 1], [2] * 30, [300, 1, 1, 1, 300], [10, 10, 10]], ids=str
)
def test_names_of_batches_do_not_lie_on_each_other(sizes):
    batch = np.repeat([f"sector{k}" for k in range(len(sizes))], sizes)
    X = np.random.default_rng(0).normal(size=(len(batch), 4))
    display = RelativeLogExpressionDisplay.from_tables(X, batch=batch)
    display.figure_.draw_without_rendering()
    names = [each for each in display.axes_[-1].get_xticklabels() if each.get_text()]
    boxes = [each.get_window_extent() for each in names]
    assert len(names) >= 2
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


def test_many_samples_are_thinned_within_their_batches():
    crowd = make_lab(2_000, 5, 4, n_singletons=1, random_state=0)
    display = RelativeLogExpressionDisplay.from_tables(crowd.data, batch=crowd.batch)
    shown = crowd.batch[display.boxes["before"].index].value_counts().to_dict()
    assert shown == {"b1": 133, "b2": 133, "b3": 133, "b4": 1}
    assert "400 of 2,000" in display.axes_[-1].get_xlabel()
    whole = (crowd.data - crowd.data.median()).median(axis=1)  # medians are those of all samples
    np.testing.assert_allclose(display.boxes["before"]["median"], whole[display.boxes["before"].index], atol=1e-12)


def test_a_table_of_gaps_alone_is_refused():
    with pytest.raises(BatchfixError, match="must hold values to be looked at"):
        RelativeLogExpressionDisplay.from_tables(LAB.data * np.nan, batch=LAB.batch)


# ---- design and forecast


def test_design_counts_and_empty_cells():
    bladder = load_bladder()
    batch, cancer = bladder.samples["batch"], bladder.samples["cancer"]
    display = DesignDisplay.from_labels(batch, {"cancer": cancer})
    wanted = pd.crosstab(batch, cancer)
    pd.testing.assert_frame_equal(display.table, wanted, check_names=False, check_dtype=False)
    drawn = np.array([int(text.get_text()) for text in display.ax_.texts]).reshape(wanted.shape)
    np.testing.assert_array_equal(drawn, wanted)
    hatched = [patch.get_xy() for patch in display.ax_.patches if patch.get_hatch()]
    assert sorted(hatched) == sorted((j - 0.5, i - 0.5) for i, j in np.argwhere(wanted.to_numpy() == 0))
    assert f"{int((wanted == 0).sum().sum())} of 15 cells are empty" in display.describe()


def test_a_long_title_of_a_narrow_design_is_whole():
    name = "condition of the patient at admission"
    display = DesignDisplay.from_labels(np.repeat(list("abcd"), 4), {name: list("xyxy") * 4})
    display.figure_.draw_without_rendering()
    (title,) = (text for text in display.figure_.texts if "batch" in text.get_text())
    held = title.get_window_extent()
    assert display.figure_.bbox.x0 <= held.x0
    assert held.x1 <= display.figure_.bbox.x1


def test_blocks_stand_together_and_are_framed():
    batch = ["a", "b", "c", "d"] * 6
    level = {"a": "xy", "c": "xy", "b": "uv", "d": "uv"}
    group = [level[each][(k // 4) % 2] for k, each in enumerate(batch)]
    display = DesignDisplay.from_labels(batch, {"g": group})
    assert {"".join(sorted(each)) for each in (display.table.index[:2], display.table.index[2:])} == {"ac", "bd"}
    off_diagonal = np.r_[display.table.iloc[:2, 2:].to_numpy(), display.table.iloc[2:, :2].to_numpy()]
    assert (off_diagonal == 0).all()
    assert sum(patch.get_hatch() is None for patch in display.ax_.patches) == 2
    assert "2 blocks that cannot be compared" in display.describe()


def test_a_number_is_drawn_as_mean_and_spread():
    age = pd.Series(np.random.default_rng(0).normal(50, 9, 60), index=LAB.data.index)
    display = DesignDisplay.from_labels(LAB.batch, pd.DataFrame({"age": age, "group": LAB.group}))
    means, (_, _), (lines,) = display.ax_.containers[0]
    np.testing.assert_allclose(np.asarray(means.get_xdata(), float), age.groupby(LAB.batch).mean())
    wide = [(segment[1, 0] - segment[0, 0]) / 2 for segment in lines.get_segments()]
    np.testing.assert_allclose(np.asarray(wide, float), age.groupby(LAB.batch).std())
    assert DesignDisplay(display.forecast, "group").table.shape == (3, 2)
    with pytest.raises(BatchfixError, match=r"column must be one that is kept.*did you mean 'group'"):
        DesignDisplay(display.forecast, "grup")


def test_a_large_design_says_what_it_leaves_out():
    k = np.arange(600)
    display = DesignDisplay.from_labels(k % 60, {"g": np.char.add("g", (k // 7 % 20).astype(str))})
    assert display.ax_.get_xlabel() == "and 20 more batches and 6 more levels"
    assert len(display.ax_.get_yticklabels()) == 40


def test_forecast_curves_and_marks():
    bladder = load_bladder()
    forecast = design_forecast(bladder.samples["batch"], {"cancer": bladder.samples["cancer"]})
    display = ForecastDisplay.from_forecast(forecast)
    worst = forecast.contrasts.sort_values("rho2", ascending=False)
    for ax, field in zip(display.axes_, ["surviving", "noise", "false_positives"], strict=True):
        curve = ax.lines[0]
        np.testing.assert_array_equal(curve.get_xdata(), forecast.curve.rho2)
        np.testing.assert_array_equal(curve.get_ydata(), getattr(forecast.curve, field))
        drawn = offsets(ax)
        np.testing.assert_allclose(drawn, worst[["rho2", field]])
        # what is marked lies on the curve
        np.testing.assert_allclose(drawn[:, 1], np.interp(drawn[:, 0], curve.get_xdata(), curve.get_ydata()), rtol=0.01)
    names = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    assert names == [each.replace("'", "") for each in worst["contrast"]]


def test_a_contrast_without_estimate_has_no_noise_and_no_rate():
    display = ForecastDisplay.from_labels(list("aabb") * 5, {"g": list("xxyy") * 5})
    assert offsets(display.axes_[0]).tolist() == [[1.0, 0.0]]
    assert np.ma.masked_invalid(offsets(display.axes_[1])[:, 1]).mask.all()
    assert np.ma.masked_invalid(offsets(display.axes_[2])[:, 1]).mask.all()
    assert "x - y cannot be told from batch" in display.describe()


# ---- features


def test_feature_effects_are_sorted_and_the_worst_named():
    display = FeatureEffectsDisplay.from_tables(LAB.data, AFTER, batch=LAB.batch, keep=LAB.group, top=4)
    before, after = (feature_effects(table, LAB.batch, LAB.group).eta2 for table in (LAB.data, AFTER))
    assert display.offenders == list(before.sort_values(ascending=False).index[:4])
    left, right = display.axes_
    for line, eta2 in zip(left.lines, (before, after), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.sort(eta2)[::-1], atol=1e-12)
    names = [label.get_text() for label in right.get_yticklabels()]
    assert names == display.offenders
    points = [np.asarray(each.get_offsets()) for each in right.collections if len(each.get_offsets()) == 4]
    for drawn, eta2 in zip(points[-2:], (before, after), strict=True):
        np.testing.assert_allclose(drawn[:, 0], eta2[display.offenders], atol=1e-12)


def test_offenders_are_those_after_where_some_are_left():
    rng = np.random.default_rng(0)
    worse = LAB.data - LAB.data.groupby(LAB.batch).transform("mean")
    worse["f07"] += 5.0 * (LAB.batch == "b1") + rng.normal(size=60)
    display = FeatureEffectsDisplay.from_tables(LAB.data, worse, batch=LAB.batch)
    assert display.offenders[0] == "f07"
    assert display.axes_[1].get_title() == "most affected after"


def test_microbes_are_named():
    table = load_microbes()
    batch = table.samples["batch"]
    logs = np.log1p(table.data)
    display = FeatureEffectsDisplay.from_tables(logs, batch=batch)
    assert set(display.offenders) <= set(table.data.columns)
    png(display.figure_)


# ---- sectors


def test_sector_lines_are_sums_of_what_was_taken_away():
    markets = load_markets()
    display = SectorIndexDisplay.from_estimator(GroupCorrector(markets.sector), markets.returns)
    means = markets.returns.T.groupby(markets.sector).mean().T
    drawn = {line.get_label(): line for line in display.ax_.lines}
    names = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    for line, name in zip(display.ax_.lines, names, strict=False):
        # sums of 250 returns of about 0.01
        np.testing.assert_allclose(line.get_ydata(), means[name].cumsum(), atol=1e-12)
    assert len(drawn) == 7  # six sectors, and 0
    assert names == list(means.cumsum().iloc[-1].sort_values(ascending=False).index)
    plain = SectorIndexDisplay.from_estimator(GroupCorrector(markets.sector), markets.returns, cumulative=False)
    np.testing.assert_allclose(plain.lines[means.columns], means, atol=1e-12)


def test_sectors_that_change_over_time_are_passed_on():
    markets = load_markets()
    display = SectorIndexDisplay.from_estimator(
        GroupCorrector(center="median"), markets.returns, membership=markets.membership, cumulative=False
    )
    day = markets.returns.index[100]
    wanted = markets.returns.loc[day].groupby(markets.membership.loc[day]).median()
    np.testing.assert_allclose(display.means.loc[day, wanted.index], wanted, atol=1e-12)


def test_a_gap_is_no_step():
    display = SectorIndexDisplay.from_means(pd.DataFrame({"a": [1.0, np.nan, 2.0]}))
    np.testing.assert_array_equal(display.lines["a"], [1.0, np.nan, 3.0])


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (partial(SectorIndexDisplay.from_transformed, LAB.data), "columns such as 'mean"),
        (partial(SectorIndexDisplay.from_transformed, LAB.data.to_numpy()), "got ndarray"),
        (partial(SectorIndexDisplay.from_estimator, ComBat(), LAB.data), "returns group statistics, got ComBat"),
        (partial(SectorIndexDisplay.from_estimator, GroupCorrector(within="date"), LAB.data), "need a wide table"),
    ],
)
def test_tables_without_group_means_are_refused(draw, words):
    with pytest.raises(BatchfixError, match=words):
        draw()


@pytest.mark.parametrize(
    "dates",
    [
        pd.date_range("2020", periods=3, tz="Europe/Berlin"),
        pd.period_range("2020", periods=3, freq="M"),
        pd.Index(["x", "y", "z"]),
        pd.RangeIndex(3),
    ],
)
def test_dates_of_every_kind(dates):
    png(SectorIndexDisplay.from_means(pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=dates)).figure_)


# ---- words


def test_short_names_stay_apart():
    names = [f"a_very_long_common_beginning_{k}_and_a_very_long_common_ending" for k in range(30)]
    shown = short_names(names, 14)
    assert len(set(shown)) == 30
    assert max(map(len, shown)) <= 14
    plates = [f"plate_2024_site_Heidelberg_machine_{k:02d}_<b>" for k in range(40)]
    assert short_names(plates, 14)[:3] == ["…00…", "…01…", "…02…"]
    assert short("x" * 100, 10) == "xxxxxx…xxx"
    hopeless = ["x" * 40 + letter + "y" * 40 + letter * 3 + "z" * 40 for letter in "ab"]
    assert len(set(short_names([*hopeless, "y" + hopeless[0]], 14))) == 3
