"""A corrector as a layer: the same numbers, gradients, torch's tools, and a sentence for what cannot be."""

import copy
import importlib.util
import io
import pickle
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("torch", reason="the layer is torch's")

import torch

from batchfix import BatchCorrector, ComBat, LinearCorrector
from batchfix.adapters import torch as adapter
from batchfix.adapters.torch import to_torch
from batchfix.exceptions import (
    AdaptationWarning,
    BatchfixError,
    BatchfixWarning,
    MergeError,
    MissingLabelError,
    UnknownBatchError,
    UnknownLevelError,
)

N, P = 48, 5
F64 = torch.float64

COMBAT = {
    "combat": ComBat(),
    "combat, not parametric": ComBat(parametric=False),
    "combat, mean only": ComBat(mean_only=True),
    "combat, guarded": ComBat(scale_guard=0.9),
    "combat, reference": ComBat(reference_batch="b"),
}
BATCH = {
    "batch": BatchCorrector(),
    "batch, standard": BatchCorrector(target="standard"),
    "batch, shrunk": BatchCorrector(shrinkage="eb"),
    "batch, located": BatchCorrector(scale=None),
    "batch, scaled": BatchCorrector(location=None),
    "batch, reference": BatchCorrector(reference_batch="b"),
}
ROBUST = {"batch, robust": BatchCorrector(location="median", scale="mad")}
LINEAR = {"linear": LinearCorrector(), "linear, reference": LinearCorrector(reference_batch="b")}
KEEPING = COMBAT | BATCH | LINEAR
ALL = KEEPING | ROBUST
THREE = {name: ALL[name] for name in ("combat", "batch, standard", "linear")}
UNKNOWN = ("error", "pooled", "nan")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def table(seed=0, missing=0.1, offset=0.0, unit=1.0):
    """Rows (N, P) of three batches, with gaps, a constant feature, and columns to keep or to remove."""
    rng = np.random.default_rng(seed)
    batch = np.array(["a", "b", "c"])[np.r_[np.tile([0, 1, 2], 5), rng.integers(0, 3, N - 15)]]
    kept = pd.DataFrame({"age": rng.normal(50.0, 9.0, N), "sex": rng.choice(["f", "m"], N)})
    X = rng.normal(size=(N, P)) * (1 + 0.7 * (batch == "b"))[:, None] + 2.0 * (batch == "c")[:, None]
    X += 0.05 * kept["age"].to_numpy()[:, None] + (kept["sex"] == "m").to_numpy()[:, None] * rng.normal(size=P)
    X[15:, :3][rng.random((N - 15, 3)) < missing] = np.nan
    X[:, P - 1] = 3.0
    return X * unit + offset, batch, kept


def fitted(corrector, X, **labels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchfixWarning)  # of the constant feature and the like
        return clone(corrector).fit(X, **labels)


def made(corrector, seed=0, keep=False, **options):
    """A corrector fitted to a table, its layer in float64, and the layer's arguments for that table."""
    X, batch, kept = table(seed)
    corrector = fitted(corrector, X, batch=batch, **({"keep": kept} if keep else {}))
    layer = to_torch(corrector, **({"dtype": F64} | options))
    return corrector, layer, (torch.tensor(X, dtype=layer.scale.dtype), layer.batch_codes(batch), layer.design(kept))


def same(layer, want, *arguments, rtol=1e-12):
    """The layer gives what the estimator gave, of the same dtype, NaN in the same cells."""
    found = layer(*arguments).detach().numpy()
    want = np.asarray(want)
    assert found.dtype == want.dtype
    assert_allclose(found, want, rtol=0, atol=rtol * np.nanmax(np.abs(want), initial=1.0))


# ---- the same numbers as the estimator


@settings(max_examples=5)
@given(
    seed=st.integers(0, 999), missing=st.sampled_from([0.0, 0.1]), place=st.sampled_from([(0, 1), (1e6, 1), (0, 1e-9)])
)
@pytest.mark.parametrize("keep", [{}, {"keep_at_transform": True}, {"keep_at_transform": False}], ids=["", "at", "fit"])
@pytest.mark.parametrize("name", ALL)
def test_layer_is_the_estimator(name, keep, seed, missing, place):
    if keep and name in ROBUST:
        return  # medians keep nothing
    X, batch, kept = table(seed, missing, *place)
    columns = {"keep": kept} if keep else {}
    corrector = fitted(clone(ALL[name]).set_params(**keep), X, batch=batch, **columns)
    layer, back = to_torch(corrector, dtype=F64), to_torch(corrector, inverse=True, dtype=F64)
    codes, design = layer.batch_codes(batch), layer.design(kept)
    Y = corrector.transform(X, batch=batch, **columns)
    same(layer, Y, torch.tensor(X), codes, design)
    same(back, corrector.inverse_transform(Y, batch=batch, **columns), torch.tensor(Y), codes, design)
    same(lambda *a: back(layer(*a), *a[1:]), X, torch.tensor(X), codes, design)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("handle", ["pooled", "nan"])
@pytest.mark.parametrize("name", ALL)
def test_unknown_batches_are_handled_as_the_estimator_does(name, handle, keep):
    keep &= name not in ROBUST
    corrector, layer, (x, _, design) = made(clone(ALL[name]).set_params(handle_unknown=handle), keep=keep)
    X, batch, kept = table()
    batch = batch.copy()
    batch[::4] = "zz"
    columns = {"keep": kept} if keep else {}
    codes = layer.batch_codes(batch)
    assert_array_equal(codes.numpy()[::4], -1)
    Y = corrector.transform(X, batch=batch, **columns)
    same(layer, Y, x, codes, design)
    back = to_torch(corrector, inverse=True, dtype=F64)
    same(back, corrector.inverse_transform(Y, batch=batch, **columns), torch.tensor(Y), codes, design)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_batches_that_adapt_added_have_their_codes(name, keep):
    keep &= name not in ROBUST
    corrector, _, (x, _, design) = made(clone(ALL[name]).set_params(handle_unknown="pooled"), keep=keep)
    X, _, kept = table()
    new, columns = np.where(np.arange(N) % 2, "aa", "z"), {"keep": kept} if keep else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AdaptationWarning)
        adapted = corrector.adapt(X[1::2] + 9, batch=new[1::2], **{k: v[1::2] for k, v in columns.items()})
    new[::2] = "b"
    new[4] = "unseen"
    layer = to_torch(adapted, dtype=F64)
    assert layer.batches_.tolist() == ["a", "b", "c", "aa"]
    assert layer.batch_codes(["aa", "a", "c", "b", "new"]).tolist() == [3, 0, 2, 1, -1]
    same(layer, adapted.transform(X, batch=new, **columns), x, layer.batch_codes(new), design)


@pytest.mark.parametrize("handle", UNKNOWN)
@pytest.mark.parametrize("reference", [None, ("b", "v")])
def test_several_batch_factors_and_nuisance(handle, reference):
    X, batch, kept = table()
    chip = np.random.default_rng(1).choice(["u", "v", "w"], N)
    corrector = LinearCorrector(reference_batch=reference, handle_unknown=handle)
    both = np.c_[batch, chip]
    corrector = fitted(corrector, X, batch=both, keep=kept[["sex"]], nuisance=kept[["age"]])
    layer = to_torch(corrector, dtype=F64)
    assert [labels.tolist() for labels in layer.factors_] == [["a", "b", "c"], ["u", "v", "w"]]
    assert layer.design_columns_ == ["age"]
    if handle != "error":
        both[0, 0], both[1, 1], both[2] = "x", "x", "x"
    codes, design = layer.batch_codes(both), layer.design(kept)
    same(layer, corrector.transform(X, batch=both, nuisance=kept[["age"]]), torch.tensor(X), codes, design)
    with pytest.raises(BatchfixError, match=r"codes must have shape \(48, 2\)"):
        layer(torch.tensor(X), codes[:, 0], design)
    named = pd.DataFrame(both, columns=["plate", "chip"])
    assert torch.equal(layer.batch_codes(named.to_dict("list")), codes)
    with pytest.raises(BatchfixError, match=r"must have 2 factor\(s\) as in fit; got 1"):
        layer.batch_codes(batch)


def test_named_factors_are_found_by_name():
    X, batch, _ = table()
    both = pd.DataFrame({"plate": batch, "chip": np.random.default_rng(1).choice(["u", "v"], N)})
    corrector = fitted(LinearCorrector(), X, batch=both)
    layer = to_torch(corrector, dtype=F64)
    same(layer, corrector.transform(X, batch=both), torch.tensor(X), layer.batch_codes(both[["chip", "plate"]]))
    with pytest.raises(BatchfixError, match="factors of fit"):
        layer.batch_codes(both.rename(columns={"chip": "slide"}))


def test_categories_are_read_by_their_names():
    X, batch, kept = table()
    dose = pd.Series(np.where(kept["sex"] == "f", 0.5, 2.5), name="dose").astype("category")
    corrector = fitted(ComBat(), X, batch=batch, keep=dose)
    layer = to_torch(corrector, dtype=F64)
    assert layer.design_columns_ == ["dose='0.5'", "dose='2.5'"]
    want = corrector.transform(X, batch=batch, keep=dose)
    same(layer, want, torch.tensor(X), layer.batch_codes(batch), layer.design(dose))


def test_what_one_unit_adds_is_stored_once_where_batches_share_it():
    X, batch, kept = table()
    layer = to_torch(fitted(LinearCorrector(), X, batch=batch, nuisance=kept))
    assert tuple(layer.loading.shape) == (1, 3, P)
    assert layer.design_columns_ == ["age", "sex='f'", "sex='m'"]
    _, layer, _ = made(ComBat(), keep=True)
    assert tuple(layer.loading.shape) == (3, 3, P)


@pytest.mark.parametrize("name", ["combat", "batch, standard", "linear"])
def test_fitted_without_batches_it_is_a_layer_of_x_alone(name):
    X, _, kept = table(missing=0.0)
    labels = {"nuisance": kept[["age"]]} if name == "linear" else {}
    corrector = fitted(ALL[name], X, **labels)
    layer = to_torch(corrector, dtype=F64)
    design = (None, layer.design(kept)) if labels else ()
    same(layer, corrector.transform(X, **labels), torch.tensor(X), *design)
    if not labels:
        same(torch.nn.Sequential(layer, torch.nn.ReLU()), corrector.transform(X).clip(min=0), torch.tensor(X))
    with pytest.raises(UnknownBatchError, match="fitted without batch labels"):
        layer(torch.tensor(X), torch.zeros(N, dtype=torch.long))
    with pytest.raises(UnknownBatchError, match="fitted without batch labels"):
        layer.batch_codes(["a"] * N)


def test_merged_and_added_rows_are_in_the_layer():
    X, batch, kept = table()
    parts = [clone(ComBat()).partial_fit(X[s], batch=batch[s], keep=kept[s]) for s in (slice(20), slice(20, N))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchfixWarning)
        whole = parts[0].merge(parts[1])
        layer = to_torch(whole, dtype=F64)
    want = whole.transform(X, batch=batch, keep=kept)
    same(layer, want, torch.tensor(X), layer.batch_codes(batch), layer.design(kept))


def test_a_kept_label_is_not_asked_for():
    X, batch, kept = table()
    corrector = clone(ComBat(keep_y=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchfixWarning)
        corrector.fit(X, kept["sex"], batch=batch, keep=kept[["age"]])
    layer = to_torch(corrector, dtype=F64)
    assert layer.design_columns_ == ["age"]
    want = corrector.transform(X, batch=batch, keep=kept[["age"]])
    same(layer, want, torch.tensor(X), layer.batch_codes(batch), layer.design(kept))


def test_keys_of_a_table_are_named_as_in_fit():
    X, batch, kept = table()
    frame = pd.DataFrame(X, columns=list("vwxyz")).assign(plate=batch, **kept)
    corrector = fitted(ComBat(batch_key="plate", keep_keys=["sex", "age"]), frame)
    layer = to_torch(corrector, dtype=F64)
    assert layer.features_ == list("vwxyz")
    assert layer.design_columns_ == ["sex='f'", "sex='m'", "age"]
    x = torch.tensor(frame[layer.features_].to_numpy())
    same(layer, corrector.transform(frame), x, layer.batch_codes(frame["plate"]), layer.design(frame))


def test_columns_without_names_are_called_as_in_fit():
    X, batch, kept = table()
    ages = np.c_[kept["age"], kept["age"] ** 2]
    corrector = fitted(ComBat(), X, batch=batch, keep=ages)
    layer = to_torch(corrector, dtype=F64)
    assert layer.design_columns_ == ["keep0", "keep1"]
    same(
        layer,
        corrector.transform(X, batch=batch, keep=ages),
        torch.tensor(X),
        layer.batch_codes(batch),
        layer.design(ages),
    )
    corrector = fitted(LinearCorrector(), X, batch=batch, nuisance=kept["sex"].to_numpy())
    layer = to_torch(corrector)
    assert layer.design_columns_ == ["nuisance0='f'", "nuisance0='m'"]
    assert torch.equal(layer.design(kept["sex"].to_numpy())[:, 1], torch.tensor(kept["sex"] == "m", dtype=F64))
    corrector = fitted(ComBat(keep_keys=[P]), np.c_[X, kept["age"]], batch=batch)
    layer = to_torch(corrector)
    assert layer.features_ == [f"x{j}" for j in range(P)]
    assert_array_equal(layer.design({P: kept["age"].tolist()})[:, 0], kept["age"])


@pytest.mark.parametrize("labels", [np.array([3, 1, 2]), np.array(["2026-01-02", "2026-01-01", "2025-01-01"], "M8[D]")])
def test_labels_of_any_kind_and_container(labels):
    X, batch, _ = table()
    batch = labels[np.searchsorted(["a", "b", "c"], batch)]
    layer = to_torch(fitted(BatchCorrector(), X, batch=batch))
    codes = layer.batch_codes(batch)
    assert codes.dtype == torch.long
    assert_array_equal(layer.batches_[codes.numpy()], batch)
    for container in (list, pd.Series, pd.Index, lambda v: pd.Series(v).astype("category")):
        assert_array_equal(layer.batch_codes(container(batch)), codes)
    assert layer.batch_codes(batch[0]).expand(4).tolist() == [codes[0].item()] * 4


# ---- rounding


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", KEEPING)
def test_float32_is_as_good_as_the_estimator_also_far_from_0(name, keep):
    for offset in (0.0, 1e6):
        X, batch, kept = table(offset=offset, unit=100.0)
        X = X.astype(np.float32)
        columns = {"keep": kept} if keep else {}
        corrector = fitted(ALL[name], X, batch=batch, **columns)
        exact = np.asarray(corrector.transform(X.astype(np.float64), batch=batch, **columns))
        theirs = np.nanmax(np.abs(corrector.transform(X, batch=batch, **columns) - exact))
        ulp = np.spacing(np.float32(np.nanmax(np.abs(exact))))
        for layer in (to_torch(corrector), to_torch(corrector, dtype=F64).float()):
            assert layer.scale.dtype == torch.float32
            y = layer(torch.tensor(X), layer.batch_codes(batch), layer.design(kept))
            assert y.dtype == torch.float32
            assert np.nanmax(np.abs(y.numpy() - exact)) <= theirs + 2 * ulp


def test_numbers_far_from_0_are_centred_before_they_are_rounded():
    X, batch, kept = table()
    kept["age"] += 1e9
    corrector = fitted(ComBat(), X, batch=batch, keep=kept)
    layer = to_torch(corrector)
    y = layer(torch.tensor(X, dtype=torch.float32), layer.batch_codes(batch), layer.design(kept))
    want = corrector.transform(X, batch=batch, keep=kept)
    assert_allclose(y.numpy(), want, rtol=0, atol=1e-6 * np.nanmax(np.abs(want)))


def test_two_batches():
    X, batch, kept = table()
    X, batch, kept = X[batch != "c"], batch[batch != "c"], kept[batch != "c"]
    corrector = fitted(ComBat(), X, batch=batch, keep=kept)
    layer = to_torch(corrector, dtype=F64)
    want = corrector.transform(X, batch=batch, keep=kept)
    same(layer, want, torch.tensor(X), layer.batch_codes(batch), layer.design(kept))


@pytest.mark.parametrize("unit", [1e-150, 1e150])
def test_any_unit_fits_float64_and_is_refused_where_it_does_not_fit(unit):
    X, batch, _ = table(missing=0.0)
    X = X[:, :4] * unit
    corrector = fitted(BatchCorrector(target="standard"), X, batch=batch)
    layer = to_torch(corrector, dtype=F64)
    same(layer, corrector.transform(X, batch=batch), torch.tensor(X), layer.batch_codes(batch))
    for inverse in (False, True):
        with pytest.raises(
            BatchfixError, match=r"must fit torch\.float32; got a (center|scale|shift) of .*dtype=torch"
        ):
            to_torch(corrector, inverse=inverse)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_mapped_in_the_layers_own(half):
    _, layer, (x, codes, design) = made(ComBat(), keep=True, dtype=torch.float32)
    x = x.to(half)
    y = layer(x, codes, design)
    assert y.dtype == half
    assert_array_equal(y.isnan(), x.isnan())
    assert torch.equal(y.nan_to_num(), layer(x.float(), codes, design).to(half).nan_to_num())


def test_autocast_leaves_the_map_in_float32():
    _, layer, arguments = made(ComBat(), keep=True, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(*arguments)
    assert y.dtype == torch.float32
    assert torch.equal(y.nan_to_num(), layer(*arguments).nan_to_num())


# ---- gradients


@pytest.mark.parametrize("name", KEEPING)
def test_slope_of_a_frozen_layer_is_r(name):
    corrector, layer, (x, codes, design) = made(ALL[name], keep=True)
    assert not list(layer.parameters())
    x = x.requires_grad_()
    layer(x, codes, design).sum().backward()
    r = np.broadcast_to(corrector.affine_.r, (3, P))[codes.numpy()]
    assert_allclose(x.grad.numpy(), r, rtol=1e-14)


@pytest.mark.parametrize("name", THREE)
@pytest.mark.parametrize("handle", UNKNOWN)
def test_gradients_of_what_is_trained(name, handle):
    X, batch, kept = table(missing=0.0)
    columns = {"nuisance" if name == "linear" else "keep": kept}
    corrector = fitted(clone(ALL[name]).set_params(handle_unknown=handle), X, batch=batch, **columns)
    layer = to_torch(corrector, trainable=True, dtype=F64)
    assert {n for n, _ in layer.named_parameters()} == {"scale", "shift", "loading"}
    rows = slice(6)
    x, codes, design = torch.tensor(X[rows]), layer.batch_codes(batch[rows]), layer.design(kept[rows])
    if handle != "error":
        codes[2] = -1
    maps = {n: p.detach().clone().requires_grad_() for n, p in layer.named_parameters()}

    def mapped(x, *values):
        y = torch.func.functional_call(layer, dict(zip(maps, values, strict=True)), (x, codes, design))
        return y[codes >= 0] if handle == "nan" else y

    assert torch.autograd.gradcheck(mapped, (x.requires_grad_(), *maps.values()))
    assert torch.autograd.gradgradcheck(mapped, (x, *maps.values()))


def test_gaps_give_no_gradient():
    for trainable in (False, True):
        _, layer, (x, codes, design) = made(ComBat(), keep=True, trainable=trainable)
        assert x.isnan().any()
        x.requires_grad_()
        layer(x, codes, design).nan_to_num().square().sum().backward()
        for value in (x, *layer.parameters()):
            assert value.grad.isfinite().all()


def test_training_starts_at_the_fitted_map_and_moves_what_was_seen():
    corrector, layer, (x, codes, design) = made(ComBat(handle_unknown="pooled"), keep=True, trainable=True)
    X, batch, kept = table()
    same(layer, corrector.transform(X, batch=batch, keep=kept), x, codes, design)
    before = copy.deepcopy(layer)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    some = codes == 1
    loss = layer(x[some], codes[some], design[some]).nan_to_num().square().sum()
    loss.backward()
    optimizer.step()
    for name, value in layer.named_parameters():
        moved = (value != getattr(before, name)).flatten(1).any(dim=1)
        assert moved.tolist() == [False, True, False, False], name
    assert torch.equal(layer.center, before.center)
    after = layer(x[some], codes[some], design[some]).nan_to_num().square().sum()
    assert after < loss


# ---- torch's tools


class Reader(torch.nn.Module):
    def __init__(self, correct):
        super().__init__()
        self.correct = correct
        self.read = torch.nn.Linear(P, 2)

    def forward(self, x, codes, design):
        return self.read(self.correct(x, codes, design).nan_to_num())


@pytest.mark.parametrize("trainable", [False, True])
def test_state_pickle_and_copies(trainable):
    _, layer, arguments = made(ComBat(), keep=True, trainable=trainable)
    want = layer(*arguments)
    state = layer.state_dict()
    assert set(state) == {"center", "scale", "shift", "loading", "pivot"}
    _, other, _ = made(ComBat(), seed=1, keep=True, trainable=not trainable)
    assert not torch.equal(other(*arguments).nan_to_num(), want.nan_to_num())
    other.load_state_dict(state)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    copies = [other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)]
    for one in copies:
        assert torch.equal(one(*arguments).nan_to_num(), want.nan_to_num())
        assert_array_equal(one.batches_, layer.batches_)
        assert one.design_columns_ == layer.design_columns_


def test_no_training_data_is_in_the_layer():
    X, batch, kept = table()
    few = to_torch(fitted(ComBat(), X, batch=batch, keep=kept))
    many = to_torch(
        fitted(ComBat(), np.tile(X, (20, 1)), batch=np.tile(batch, 20), keep=pd.concat([kept] * 20, ignore_index=True))
    )
    assert len(pickle.dumps(many)) == len(pickle.dumps(few))
    assert sum(value.numel() for value in few.state_dict().values()) == 3 * 3 * P + 3 * 3 * P + 3


@pytest.mark.parametrize(("handle", "dynamic"), [("error", False), ("pooled", True), ("nan", True)])
def test_compile(handle, dynamic):
    _, layer, (x, codes, design) = made(ComBat(handle_unknown=handle), keep=True, trainable=True)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for n in (N, 7):
        arguments = x[:n], codes[:n], design[:n]
        assert_allclose(compiled(*arguments).detach(), layer(*arguments).detach(), rtol=1e-14)
    compiled(x, codes, design).nan_to_num().sum().backward()
    got = {name: p.grad.clone() for name, p in layer.named_parameters()}
    layer.zero_grad()
    layer(x, codes, design).nan_to_num().sum().backward()
    for name, p in layer.named_parameters():
        assert_allclose(p.grad, got[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("handle", UNKNOWN)
def test_export_and_a_code_that_nobody_reads(handle):
    _, layer, (x, codes, design) = made(ComBat(handle_unknown=handle), keep=True)
    rows = torch.export.Dim("rows")
    program = torch.export.export(Reader(layer).double(), (x, codes, design), dynamic_shapes=({0: rows},) * 3)
    assert_allclose(program.module()(x[:9], codes[:9], design[:9]).shape, (9, 2))
    program = torch.export.export(layer, (x, codes, design), dynamic_shapes=({0: rows},) * 3).module()
    assert_allclose(program(x[:9], codes[:9], design[:9]), layer(x[:9], codes[:9], design[:9]), rtol=1e-14)
    wrong = torch.tensor([3, -2, -1, 0])
    y = program(x[:4], wrong, design[:4]).isnan().all(dim=1)
    assert y.tolist() == [True, True, handle != "pooled", False]


def test_onnx(tmp_path):
    pytest.importorskip("onnxscript", reason="torch exports to ONNX through it")
    runtime = pytest.importorskip("onnxruntime", reason="the exported model is run by it")
    _, layer, (x, codes, design) = made(ComBat(handle_unknown="pooled"), keep=True, dtype=torch.float32)
    design, rows = design.float(), torch.export.Dim("rows")
    path = tmp_path / "layer.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            layer, (x, codes, design), dynamo=True, verbose=False, dynamic_shapes=({0: rows},) * 3
        )
    program.save(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    codes[:4] = torch.tensor([3, -2, -1, 0])
    feed = dict(zip((i.name for i in session.get_inputs()), (x.numpy(), codes.numpy(), design.numpy()), strict=True))
    found = session.run(None, feed)[0]
    assert np.isnan(found).all(axis=1).tolist() == [True, True] + [False] * (N - 2)
    want = layer(x[2:], codes[2:], design[2:]).numpy()
    assert_allclose(found[2:], want, rtol=0, atol=1e-6 * np.nanmax(np.abs(want)))


def test_shown_with_what_it_maps():
    _, layer, _ = made(ComBat(), keep=True)
    assert repr(layer) == (
        "CorrectorLayer(5 features, batches={'a', 'b', 'c'}, design=['age', \"sex='f'\", \"sex='m'\"], "
        "handle_unknown='error', trainable=False)"
    )


def test_no_rows():
    for corrector in THREE.values():
        _, layer, (x, codes, design) = made(corrector)
        assert tuple(layer(x[:0], codes[:0], design[:0]).shape) == (0, P)


# ---- wrong use gets a sentence


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    spec = importlib.util.spec_from_file_location("batchfix.adapters.torch_again", adapter.__file__)
    with pytest.raises(ImportError, match=r"needs torch: pip install 'batchfix\[torch\]'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_what_has_no_layer():
    X, batch, _ = table()
    with pytest.raises(BatchfixError, match=r"takes a fitted corrector; got ComBat\(\) before fit"):
        to_torch(ComBat())
    with pytest.raises(BatchfixError, match=r"takes a ComBat, .*; got Pipeline"):
        to_torch(make_pipeline(ComBat(), StandardScaler()))
    corrector = fitted(ComBat(handle_unknown="adapt"), X, batch=batch)
    with pytest.raises(BatchfixError, match=r"cannot have handle_unknown='adapt'.*Call adapt\(\)"):
        to_torch(corrector)
    to_torch(corrector.set_params(handle_unknown="nan"))
    for dtype in (torch.int64, "float32", np.float32):
        with pytest.raises(BatchfixError, match="dtype must be a floating dtype of torch"):
            to_torch(corrector, dtype=dtype)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": lambda x: x.numpy()}, "x must be a tensor; got ndarray"),
        ({"x": lambda x: x.nan_to_num().long()}, r"holds torch\.float64 and takes that or half .* got torch\.int64"),
        ({"x": lambda x: x.float()}, r"got torch\.float32. Convert x with \.to\(torch\.float64\)"),
        ({"x": lambda x: x[:, :4]}, r"x must have shape \(N, 5\), .*; got \(48, 4\)"),
        ({"x": lambda x: x[0]}, r"x must have shape \(N, 5\), .*; got \(5,\)"),
        ({"x": lambda x: x.to("meta")}, "x must be on the layer's device cpu; got meta"),
        ({"codes": lambda c: None}, "must be told those of these rows; got codes=None"),
        ({"codes": lambda c: c.tolist()}, "codes must be a tensor; got list"),
        ({"codes": lambda c: c[:-1]}, r"codes must have shape \(48,\), .*; got \(47,\)"),
        ({"codes": lambda c: c[:, None]}, r"codes must have shape \(48,\), .*; got \(48, 1\)"),
        ({"codes": lambda c: c.double()}, r"codes must be whole numbers; got torch\.float64"),
        ({"codes": lambda c: c > 0}, r"codes must be whole numbers; got torch\.bool"),
        ({"codes": lambda c: c + 1}, r"codes must lie from 0 to 2, .*; got 3"),
        ({"codes": lambda c: c - 2}, r"codes must lie from 0 to 2, .*; got -2"),
        ({"codes": lambda c: c - 1}, "Code -1 stands for a batch that was not seen in fit"),
        ({"design": lambda d: None}, r"depends on age, sex='f', sex='m'; got design=None"),
        ({"design": lambda d: d[:, :1]}, r"design must be floating and of shape \(48, 3\), .* \(48, 1\)"),
        ({"design": lambda d: d[:4]}, r"design must be floating and of shape \(48, 3\), .* \(4, 3\)"),
        ({"design": lambda d: d.long()}, r"design must be floating .*got torch\.int64"),
    ],
)
def test_wrong_arguments(change, sentence):
    _, layer, arguments = made(ComBat(), keep=True)
    arguments = dict(zip(("x", "codes", "design"), arguments, strict=True))
    ((name, spoil),) = change.items()
    with pytest.raises(BatchfixError, match=sentence):
        layer(**arguments | {name: spoil(arguments[name])})


def test_a_code_is_whole_of_any_width():
    _, layer, (x, codes, design) = made(ComBat(), keep=True)
    for dtype in (torch.int8, torch.uint8, torch.int32):
        assert torch.equal(layer(x, codes.to(dtype), design).nan_to_num(), layer(x, codes, design).nan_to_num())


def test_wrong_labels_and_columns():
    _, layer, _ = made(ComBat(), keep=True)
    _, _, kept = table()
    with pytest.raises(UnknownBatchError, match=r"Batch {'p7'} was not seen in fit \(known: {'a', 'b', 'c'}\)"):
        layer.batch_codes(["a", "p7"])
    with pytest.raises(MissingLabelError, match="Every row must have a label in batch"):
        layer.batch_codes(["a", None])
    with pytest.raises(MissingLabelError, match=r"depends on its 'sex'; got columns \['age'\]"):
        layer.design(kept[["age"]])
    with pytest.raises(MissingLabelError, match="finite value in 'age'"):
        layer.design(kept.assign(age=np.nan))
    with pytest.raises(UnknownLevelError, match="'sex' must hold levels seen in fit"):
        layer.design(kept.assign(sex="x"))
    for table_ in (5, None, {"age": 50.0, "sex": "f"}):
        with pytest.raises(
            BatchfixError, match=r"keep must be a table|keep\['age'\] must be one column|depends on its 'age'"
        ):
            layer.design(table_)
    _, layer, _ = made(ComBat(handle_unknown="pooled"))
    with pytest.raises(MergeError, match="of one kind"):
        layer.batch_codes([1, 2])
