"""Affine maps: the same properties on numpy, torch and the array API standard's strict reference."""

import pickle
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from batchfix.core.affine import Affine, Frame
from batchfix.core.arrays import array_namespace

LIBRARIES = ("numpy", "torch", "array_api_strict")
DTYPES = ("float32", "float64")
EXTREMES = [("float64", 1e8, 1.0), ("float64", 1e8, 1e-3), ("float64", 0.0, 1e150), ("float64", 0.0, 1e-150)]
EXTREMES += [("float64", 1e150, 1e146), ("float64", 1e-150, 1e-154)]
EXTREMES += [("float32", 1e8, 1e4), ("float32", 0.0, 1e30), ("float32", 0.0, 1e-30), ("float32", 1e30, 1e28)]

in_each_library = pytest.mark.parametrize("library", LIBRARIES)
seeds = st.integers(0, 2**32 - 1)


class Kit:
    """Arrays of one library and dtype, and back to numpy."""

    def __init__(self, library: str, dtype: str = "float64") -> None:
        self.xp = pytest.importorskip(library)
        self.dtype = getattr(self.xp, dtype)
        self.eps = float(np.finfo(dtype).eps)

    def __call__(self, values: Any) -> Any:
        values = np.asarray(values, dtype=np.float64)
        return self.xp.reshape(self.xp.asarray(values.ravel().tolist(), dtype=self.dtype), values.shape)

    def back(self, array: Any) -> np.ndarray:
        assert type(array) is type(self([0.0])), "the library changed on the way"
        assert array.dtype == self.dtype
        return np.asarray(array)

    def frame(self, rng: np.random.Generator, shape: tuple[int, ...], offset: float = 0.0, unit: float = 1.0) -> Frame:
        location = offset + unit * rng.normal(size=shape)
        return Frame(self(location), self(unit * np.exp(rng.uniform(-2, 2, size=shape))))

    def affine(self, rng: np.random.Generator, p: int, q: int | None = None) -> Affine:
        center, shift = rng.normal(size=(2, p)) * 3
        scale = rng.choice([-1.0, 1.0], size=p) * np.exp(rng.uniform(-2, 2, size=p))
        loading = None if q is None else self(rng.normal(size=(q, p)))
        return Affine(self(center), self(scale), self(shift), loading)


@in_each_library
@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=seeds, q=st.sampled_from([None, 0, 1, 3]))
@settings(max_examples=25, deadline=None)
def test_inverse_undoes_apply(library, dtype, seed, q):
    kit, rng = Kit(library, dtype), np.random.default_rng(seed)
    f = kit.affine(rng, 4, q)
    x, z = kit(rng.normal(size=(6, 4))), None if q is None else kit(rng.normal(size=(6, q)))
    there = f.apply(x, z)
    assert_allclose(kit.back(f.inverse().apply(there, z)), kit.back(x), rtol=0, atol=2000 * kit.eps)
    assert_allclose(kit.back((f.inverse() @ f).apply(x, z)), kit.back(x), rtol=0, atol=2000 * kit.eps)
    assert_allclose(kit.back(f.inverse().inverse().apply(x, z)), kit.back(there), rtol=0, atol=2000 * kit.eps)


@in_each_library
@given(seed=seeds, qs=st.sampled_from([(None, None, None), (2, None, None), (None, 2, None), (2, 2, 2)]))
@settings(max_examples=25, deadline=None)
def test_composition_is_associative_and_applies_the_right_one_first(library, seed, qs):
    kit, rng = Kit(library), np.random.default_rng(seed)
    f, g, h = (kit.affine(rng, 3, q) for q in qs)
    x, z = kit(rng.normal(size=(5, 3))), kit(rng.normal(size=(5, 2)))
    stepwise = kit.back(f.apply(g.apply(h.apply(x, z), z), z))
    assert_allclose(kit.back(((f @ g) @ h).apply(x, z)), stepwise, rtol=1e-12, atol=1e-10)
    assert_allclose(kit.back((f @ (g @ h)).apply(x, z)), stepwise, rtol=1e-12, atol=1e-10)
    assert_allclose(kit.back((Affine.identity() @ f).apply(x, z)), kit.back(f.apply(x, z)), rtol=1e-13, atol=1e-13)
    assert_allclose(kit.back((f @ Affine.identity()).apply(x, z)), kit.back(f.apply(x, z)), rtol=1e-13, atol=1e-13)


@in_each_library
@pytest.mark.parametrize(("dtype", "offset", "unit"), EXTREMES)
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_frames_join_at_any_offset_and_unit(library, dtype, offset, unit, seed):
    kit, rng = Kit(library, dtype), np.random.default_rng(seed)
    source, target = kit.frame(rng, (3,), offset, unit), kit.frame(rng, (3,), offset, unit)
    x = kit(offset + unit * rng.normal(size=(7, 3)))
    exact = 1e4 * kit.eps  # a few roundings of values up to about 2,500, whatever the offset
    placed = exact + 16 * kit.eps * offset / unit  # and one of a value of the offset's size, in units of the spread
    z_source, z_target = Affine.standardize(source).apply(x), Affine.standardize(target).apply(x)

    bridge = Affine.bridge(source, target)
    assert_allclose(kit.back(bridge.apply(z_source)), kit.back(z_target), rtol=0, atol=exact)
    composed = Affine.standardize(target) @ Affine.standardize(source).inverse()
    assert_allclose(kit.back(composed.r), kit.back(bridge.r), rtol=8 * kit.eps)
    assert_allclose(kit.back(composed.d), kit.back(bridge.d), rtol=8 * kit.eps, atol=8 * kit.eps)

    move = Affine.move(source, target)
    moved = kit.back(move.apply(x))
    standing = kit.back(Affine.standardize(target).apply(kit(moved)))
    assert_allclose(standing, kit.back(z_source), rtol=0, atol=placed)
    back_again = kit.back(move.inverse().apply(kit(moved))).astype(float)
    assert np.abs(back_again - kit.back(x)).max() <= 60 * (unit * exact + kit.eps * offset)
    through = Affine.standardize(target).inverse() @ Affine.standardize(source)
    assert_allclose(kit.back(through.apply(x)), moved, rtol=8 * kit.eps, atol=800 * kit.eps * unit)
    assert all(np.isfinite(kit.back(part)).all() for part in (move.scale, move.center, move.shift))


def test_between_units_300_orders_of_magnitude_apart():
    small, large = Frame(np.array([1e-150]), np.array([1e-150])), Frame(np.array([1e150]), np.array([1e150]))
    there = Affine.move(small, large)
    assert_allclose(there.apply(np.array([[3e-150]])), [[3e150]], rtol=1e-15)
    assert_allclose(there.inverse().apply(np.array([[3e150]])), [[3e-150]], rtol=1e-15)
    assert_allclose((there.inverse() @ there).apply(np.array([[3e-150]])), [[3e-150]], rtol=1e-15)


def test_an_offset_of_1e8_costs_no_digits_of_the_spread():
    # In multiplied-out form the shift would be 1e8 * (1 - 1/3), and 1e-8 of the spread would go.
    x = 1e8 + np.linspace(0, 1, 5)[:, None]
    there = Affine.move(Frame(np.array([1e8]), np.array([3.0])), Frame(np.array([0.0]), np.array([1.0])))
    assert_array_equal(there.apply(x), (x - 1e8) * (1.0 / 3.0))
    assert_array_equal((Affine(0.0, 3.0, 1e8) @ there).apply(x), x)


@in_each_library
@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_move_spares_the_kept_effects(library, seed):
    kit, rng = Kit(library), np.random.default_rng(seed)
    source, target = kit.frame(rng, (3,)), kit.frame(rng, (3,))
    coef, z, residual = rng.normal(size=(2, 3)), rng.normal(size=(8, 2)), rng.normal(size=(8, 3))
    fitted = z @ coef
    x = kit(kit.back(source.location) + fitted + kit.back(source.scale) * residual)
    want = kit.back(target.location) + fitted + kit.back(target.scale) * residual
    move = Affine.move(source, target, coef=kit(coef))
    assert_allclose(kit.back(move.apply(x, kit(z))), want, atol=1e-11)
    # About a pivot: with the same z for every row, the pivot itself goes to its own place in the target.
    pivot = kit(kit.back(source.location) + fitted[:1])
    assert_allclose(kit.back(move.apply(pivot, kit(z[:1]))), kit.back(target.location) + fitted[:1], atol=1e-11)


@in_each_library
def test_loadings_of_many_groups_match_one_group_at_a_time(library):
    kit, rng = Kit(library), np.random.default_rng(0)
    source, target = kit.frame(rng, (4, 3)), kit.frame(rng, (3,))
    coef, z, x = kit(rng.normal(size=(2, 3))), kit(rng.normal(size=(4, 2))), kit(rng.normal(size=(4, 3)))
    move = Affine.move(source, target, coef=coef)
    assert tuple(move.loading.shape) == (4, 2, 3)
    whole = kit.back(move.apply(x, z))
    again = kit.back((move.inverse() @ move).apply(x, z))
    assert_allclose(again, kit.back(x), atol=1e-12)
    for b in range(4):
        one = move.group(b)
        assert tuple(one.center.shape) == tuple(one.shift.shape) == (3,)
        assert tuple(one.loading.shape) == (2, 3)
        assert_allclose(kit.back(one.apply(x[b : b + 1, :], z[b : b + 1, :])), whole[b : b + 1], atol=1e-14)


@in_each_library
def test_group_leaves_shared_parameters_whole(library):
    kit = Kit(library)
    f = Affine(kit([[1.0, 2.0], [3.0, 4.0]]), 2.0, kit([[5.0, 6.0]]), kit([[7.0, 8.0]]))
    one = f.group(1)
    assert kit.back(one.center).tolist() == [3.0, 4.0]
    assert kit.back(one.shift).tolist() == [5.0, 6.0]
    assert one.scale == 2.0
    assert one.loading is f.loading
    for index in (-1, 2):
        with pytest.raises(ValueError, match=f"holds 2 groups.*got index {index}"):
            f.group(index)
    with pytest.raises(ValueError, match="holds 0 groups"):
        Affine.identity().group(0)


@in_each_library
def test_images_take_channel_shaped_parameters(library):
    kit, rng = Kit(library), np.random.default_rng(1)
    frame = kit.frame(rng, (3, 1, 1))
    x = rng.normal(size=(2, 3, 4, 5))
    want = (x - kit.back(frame.location)) / kit.back(frame.scale)
    assert_allclose(kit.back(Affine.standardize(frame).apply(kit(x))), want, rtol=1e-14, atol=1e-15)


@in_each_library
@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_bounds_r_and_d(library, dtype):
    kit = Kit(library, dtype)
    source = Frame(kit([0.0, 100.0, -100.0, 0.5]), kit([1e-9, 1e9, 1.0, 1.0]))
    bridge = Affine.bridge(source, Frame(0.0, 1.0)).clip(4.0, 5.0)
    assert kit.back(bridge.r).tolist() == [0.25, 4.0, 1.0, 1.0]
    assert kit.back(bridge.d).tolist() == [0.0, 5.0, -5.0, 0.5]
    limits = Affine.bridge(source, Frame(0.0, 1.0)).clip(kit([4.0, 4.0, 4.0, 4.0]), kit([5.0, 5.0, 5.0, 5.0]))
    assert_array_equal(kit.back(limits.d), kit.back(bridge.d))
    shut = Affine.bridge(source, Frame(0.0, 1.0)).clip(1, 0)
    x = kit([[1.0, 2.0, 3.0, 4.0]])
    assert_array_equal(kit.back(shut.apply(x)), kit.back(x))


@in_each_library
@given(seed=seeds, t=st.floats(0, 1), loadings=st.sampled_from([(None, None), (2, None), (None, 2), (2, 2)]))
@settings(max_examples=25, deadline=None)
def test_blend_is_linear_and_meets_its_ends(library, seed, t, loadings):
    kit, rng = Kit(library), np.random.default_rng(seed)
    f, g = (kit.affine(rng, 3, q) for q in loadings)
    x, z = kit(rng.normal(size=(5, 3))), kit(rng.normal(size=(5, 2)))
    at_f, at_g = kit.back(f.apply(x, z)), kit.back(g.apply(x, z))
    assert_array_equal(kit.back(f.blend(g, 0.0).apply(x, z)), at_f)
    assert_array_equal(kit.back(f.blend(g, 1.0).apply(x, z)), at_g)
    assert_allclose(kit.back(f.blend(g, t).apply(x, z)), (1 - t) * at_f + t * at_g, rtol=1e-12, atol=1e-12)
    per_feature = f.blend(g, kit([0.0, 1.0, t]))
    assert_allclose(kit.back(per_feature.apply(x, z))[:, :2], np.stack([at_f[:, 0], at_g[:, 1]], 1), atol=1e-12)
    assert_allclose(kit.back(f.blend(g, t).r), (1 - t) * kit.back(f.r) + t * kit.back(g.r), atol=1e-12)
    assert_allclose(kit.back(f.blend(g, t).d), (1 - t) * kit.back(f.d) + t * kit.back(g.d), atol=1e-10)


def test_blend_keeps_an_offset_of_1e8():
    x = 1e8 + np.linspace(-1, 1, 5)[:, None]
    f, g = Affine(np.array([1e8]), 0.5, 0.0), Affine(np.array([1e8 + 1]), 2.0, 1.0)
    assert_array_equal(f.blend(g, 0.5).apply(x), 0.5 * f.apply(x) + 0.5 * g.apply(x))


@in_each_library
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_is_that_of_x_and_parameters(library, dtype):
    kit = Kit(library, dtype)
    f = Affine.move(Frame(kit([1.0]), kit([2.0])), Frame(0.0, 1.0), coef=kit([[3.0]]))
    kit.back((f.inverse() @ f).blend(f, 0.5).apply(kit([[1.0], [2.0]]), kit([[0.0], [1.0]])))
    kit.back(Affine.standardize(Frame(0.0, 2.0)).apply(kit([1.0])))


@in_each_library
def test_parameters_in_float64_promote_float32_data_also_with_a_loading(library):
    single, double = Kit(library, "float32"), Kit(library)
    f = Affine(0.0, double([2.0, 2.0]), 0.0, double([[1.0, 10.0], [3.0, 30.0]]))
    y = f.apply(single([[1.0, 1.0]]), single([[1.0, 2.0]]))
    assert double.back(y).tolist() == [[9.0, 72.0]]


def test_nan_stays_where_it_was():
    x = np.array([[1.0, np.nan], [3.0, 4.0]])
    y = Affine.standardize(Frame(np.array([1.0, 2.0]), np.array([2.0, 2.0]))).apply(x)
    assert_array_equal(np.isnan(y), np.isnan(x))
    unknown = Affine.standardize(Frame(np.array([np.nan, 0.0]), np.array([np.nan, 1.0])))
    assert_array_equal(np.isnan(unknown.apply(np.ones((2, 2)))), [[True, False], [True, False]])


@in_each_library
def test_a_scale_of_zero_is_refused(library):
    kit = Kit(library)
    flat, good = Frame(kit([1.0, 2.0]), kit([1.0, 0.0])), Frame(kit([1.0, 2.0]), kit([1.0, 2.0]))
    for make in (
        lambda: Affine(0.0, kit([1.0, 0.0]), 0.0).inverse(),
        lambda: Affine(0.0, 0.0, kit([1.0, 0.0])).inverse(),
        lambda: Affine.standardize(flat),
        lambda: Affine.bridge(good, flat),
        lambda: Affine.move(flat, good),
    ):
        with pytest.raises(ValueError, match=r"must not be 0.*give it scale 1"):
            make()
    assert kit.back(Affine.bridge(flat, good).r).tolist() == [1.0, 0.0]
    with np.errstate(divide="ignore", invalid="ignore"):
        assert kit.back(Affine.bridge(good, flat, check=False).r).tolist() == [1.0, np.inf]


@in_each_library
def test_what_does_not_fit_is_refused(library):
    kit = Kit(library)
    x = kit(np.ones((4, 2)))
    f = Affine(kit([0.0, 0.0]), 1.0, 0.0, kit([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))
    with pytest.raises(ValueError, match=r"depends on 3 kept column\(s\); got z=None"):
        f.apply(x)
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 3\); got shape \(4, 2\)"):
        f.apply(x, kit(np.ones((4, 2))))
    with pytest.raises(ValueError, match=r"z must broadcast .* \(4,\); got \(5,\)"):
        f.apply(x, kit(np.ones((5, 3))))
    assert kit.back(f.apply(x, kit([1.0, 1.0, 1.0]))).tolist() == [[7.0, 7.0]] * 4  # one z for all rows
    for wrong in ((4, 3), (4, 1)):
        with pytest.raises(ValueError, match=r"center must broadcast to the shape of x"):
            f.apply(kit(np.ones(wrong)), kit(np.ones((4, 3))))
    with pytest.raises(ValueError, match=r"loading must broadcast"):
        Affine(0.0, 1.0, 0.0, f.loading).apply(kit(np.ones((4, 3))), kit(np.ones((4, 3))))
    with pytest.raises(ValueError, match=r"loading must have shape"):
        Affine(0.0, 1.0, 0.0, kit([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"r_max must be at least 1; got 0\.5"):
        Affine.identity().clip(0.5, 1.0)
    with pytest.raises(ValueError, match=r"d_max must be at least 0; got nan"):
        Affine.identity().clip(2.0, float("nan"))
    with pytest.raises(ValueError, match=r"clip\(\) limits r and d of a bridge"):
        f.clip(2.0, 2.0)
    with pytest.raises(TypeError):
        f @ 2.0


def test_z_without_a_loading_is_ignored():
    assert Affine(0.0, 2.0, 1.0).apply(np.ones((2, 1)), np.ones((2, 5))).tolist() == [[3.0], [3.0]]


def test_zero_rows_and_read_only_input():
    f = Affine(np.zeros(3), np.ones(3), np.zeros(3), np.ones((2, 3)))
    assert f.apply(np.empty((0, 3)), np.empty((0, 2))).shape == (0, 3)
    x = np.asfortranarray(np.ones((2, 3)))
    x.flags.writeable = False
    assert f.apply(x, np.zeros((2, 2))).tolist() == x.tolist()


def test_maps_compare_by_identity_and_pickle():
    f = Affine(np.zeros(2), np.ones(2), np.zeros(2))
    assert f == f
    assert f != Affine(np.zeros(2), np.ones(2), np.zeros(2))
    assert pickle.loads(pickle.dumps(f)).scale.tolist() == [1.0, 1.0]


def test_gradients_flow_through_a_bridge():
    torch = pytest.importorskip("torch")
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3).requires_grad_()
    mean, scale = torch.zeros(3, dtype=torch.float64), torch.full((3,), 2.0, dtype=torch.float64, requires_grad=True)
    bridge = Affine.bridge(Frame(mean, scale), Frame(mean, 1.0), check=False).clip(torch.tensor(3.0), torch.tensor(5.0))
    bridge.blend(Affine.identity(), 0.5).apply(x).sum().backward()
    assert x.grad.tolist() == [[1.5] * 3] * 4
    assert_allclose(scale.grad, 0.5 * x.detach().sum(0))


def test_namespace_of_values():
    assert array_namespace(2.0, np.ones(1)) is np
    with pytest.raises(TypeError, match="got float, list"):
        array_namespace(1.0, [2.0])
    torch = pytest.importorskip("torch")
    assert array_namespace(torch.ones(1)) is torch


def test_namespace_needs_no_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert array_namespace(np.ones(1)) is np
