"""Saved models: the same numbers bit for bit, and nothing but that out of any file."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from batchfix.adapters.storage import CLASSES, CORRECTORS, KIND, archive, load_model, read_model, save_model
from batchfix.adapters.storage.archive import ArchiveError
from batchfix.adapters.storage.attributes import FITTED
from batchfix.adapters.storage.shapes import check_shapes
from batchfix.core.partition import BinaryPartition
from batchfix.core.schedule import Schedule
from batchfix.core.zeros import HalfMinimum, MultiplicativeReplacement
from batchfix.correctors import (
    BatchCorrector,
    CausalCorrector,
    ComBat,
    CompositionalCorrector,
    GroupCorrector,
    InstanceCorrector,
    LinearCorrector,
    LogRatio,
    RenormCorrector,
)

rng = np.random.default_rng(5)
N, NAMES = 48, list("uvwxyz")
X = rng.normal(size=(N, len(NAMES))) + np.repeat([0.0, 2.0, 5.0], N // 3)[:, None]
HOLED = np.where(rng.random(X.shape) < 0.1, np.nan, X)
BATCH = np.repeat(["a", "b", "c"], N // 3)
FRAME = pd.DataFrame(X, columns=NAMES)
KEEP = pd.DataFrame({"group": np.tile(["case", "control"], N // 2), "age": rng.normal(50, 9, size=N)})
COUNTS = rng.integers(0, 60, size=(N, len(NAMES))) + np.eye(len(NAMES), dtype=int)[np.arange(N) % len(NAMES)]
DATES = pd.date_range("2026-01-01", periods=N)
LATER = FRAME.set_axis(DATES + pd.Timedelta(days=N))
LONG = pd.DataFrame(
    {
        "date": np.repeat(DATES[: N // 4], 4),
        "symbol": np.tile(list("ABCD"), N // 4),
        "sector": np.tile(["t", "t", "o", "o"], N // 4),
        "momentum": X[:, 0],
        "size": X[:, 1],
    }
)
LONG_LATER = LONG.assign(date=LONG["date"] + pd.Timedelta(days=N))


# A case: how to make the fitted corrector, and the arguments of its transform.
Case = tuple[Callable[[], Any], tuple[Any, ...], dict[str, Any]]


def fitted(corrector: Any, table: Any, **labels: Any) -> Case:
    """Fit to a table and correct the same one."""
    return lambda: corrector.fit(table, **labels), (table,), labels


def going_on(corrector: Any, table: Any, new: Any) -> Case:
    """Fit to a table and correct what came later."""
    return lambda: corrector.fit(table), (new,), {}


BOTH = {"batch": BATCH, "keep": KEEP}
CASES: dict[str, Case] = {
    "combat": fitted(ComBat(), FRAME, **BOTH),
    "combat holes": fitted(ComBat(parametric=False), HOLED, **BOTH),
    "combat mean": fitted(ComBat(mean_only=True, reference_batch="b"), FRAME, batch=BATCH),
    "combat float32": fitted(ComBat(), X.astype(np.float32), **BOTH),
    "combat guarded": fitted(ComBat(scale_guard=0.3), FRAME, batch=BATCH),
    "combat keys": fitted(ComBat(batch_key="run", keep_keys=["age"]), FRAME.assign(run=BATCH, age=KEEP["age"])),
    "combat positions": fitted(ComBat(batch_key=0), np.column_stack([np.repeat([1, 2, 3], N // 3), X])),
    "combat spared": fitted(ComBat(keep_at_transform=False), FRAME, **BOTH),
    "combat pooled": fitted(ComBat(handle_unknown="pooled"), FRAME, **BOTH),
    "combat lists": fitted(
        ComBat(batch_key="run").set_params(keep_keys=pd.Index(["age"]), keep_numbers=np.array(["age"])),
        FRAME.assign(run=BATCH, age=KEEP["age"]),
    ),
    "objects": fitted(BatchCorrector(), FRAME, batch=BATCH.astype(object)),
    "integers": fitted(BatchCorrector(reference_batch=2), FRAME, batch=np.repeat([1, 2, 3], N // 3)),
    "booleans": fitted(BatchCorrector(), FRAME, batch=np.arange(N) % 2 == 0),
    "days": fitted(BatchCorrector(), FRAME, batch=np.repeat(DATES[:3].to_numpy(), N // 3)),
    "categories": fitted(BatchCorrector(), FRAME, batch=pd.Series(BATCH, dtype="category")),
    "numbered columns": fitted(BatchCorrector(), pd.DataFrame(X), batch=BATCH),
    "dated columns": fitted(BatchCorrector(), FRAME.set_axis(DATES[: len(NAMES)], axis=1), batch=BATCH),
    "median": fitted(BatchCorrector(location="median", scale="mad"), HOLED, batch=BATCH),
    "shrunken": fitted(BatchCorrector(shrinkage="eb", target="standard"), FRAME, batch=BATCH),
    "linear": fitted(LinearCorrector(), FRAME, batch=BATCH, nuisance=KEEP),
    "linear two": fitted(
        LinearCorrector(reference_batch=("a", "q")),
        FRAME,
        batch=pd.DataFrame({"run": BATCH, "site": np.resize(["p", "q", "q", "p"], N)}),
        keep=KEEP,
    ),
    "renorm": fitted(RenormCorrector(r_max=1.5, d_max=0.5), FRAME, batch=BATCH),
    "renorm schedule": fitted(RenormCorrector(r_max=Schedule((0, 1.0), (9, 2.0)), momentum=None), FRAME, batch=BATCH),
    "clr": fitted(LogRatio(), pd.DataFrame(COUNTS, columns=NAMES)),
    "alr": fitted(
        LogRatio("alr", reference="w", zeros=MultiplicativeReplacement(1e-4)), pd.DataFrame(COUNTS, columns=NAMES)
    ),
    "ilr": fitted(LogRatio("ilr", zeros=HalfMinimum(1e-4)), COUNTS),
    "ilr partition": fitted(LogRatio("ilr", partition=BinaryPartition.default(len(NAMES)).signs()), COUNTS),
    "rclr": fitted(LogRatio("rclr"), COUNTS),
    "compositional": fitted(CompositionalCorrector(ComBat(), output="counts"), COUNTS, **BOTH),
    "compositional keys": fitted(
        CompositionalCorrector(batch_key="run"), pd.DataFrame(COUNTS, columns=NAMES).assign(run=BATCH)
    ),
    "abundance": fitted(CompositionalCorrector(output="abundance"), COUNTS, batch=BATCH),
    "row": fitted(InstanceCorrector(), HOLED),
    "groups": fitted(GroupCorrector(groups=list("ttoott"), return_group_stats=True), FRAME),
    "groups series": fitted(
        GroupCorrector(groups=pd.Series(list("ttoott"), index=NAMES, dtype="category"), method="rank"), FRAME
    ),
    "groups dict": fitted(GroupCorrector(groups=dict(zip(NAMES, list("ttoott"), strict=True)), scale="mad"), FRAME),
    "groups table": fitted(
        GroupCorrector(
            groups=pd.DataFrame({"country": list("ddddff"), "sector": list("ttoott")}, index=NAMES),
            min_group_size=2,
            shrinkage="eb",
        ),
        FRAME,
    ),
    "groups long": fitted(
        GroupCorrector(within="date", by="sector", neutralize=["size"], winsorize=(0.05, 0.95)),
        LONG.drop(columns="symbol"),
    ),
    "expanding": going_on(CausalCorrector(), FRAME.set_axis(DATES), LATER),
    "rolling": going_on(
        CausalCorrector("rolling", length=9, center="median", scale="mad"), FRAME.set_axis(DATES), LATER
    ),
    "bridge": going_on(
        CausalCorrector("rolling", length=20, lag=3, bridge="clip", short=5), FRAME.set_axis(DATES), LATER
    ),
    "ewm": going_on(CausalCorrector("ewm", halflife=4), X, X + 1),
    "panel": going_on(
        CausalCorrector(time="date", by="symbol"), LONG.drop(columns="sector"), LONG_LATER.drop(columns="sector")
    ),
}


def bits(table: Any) -> tuple[Any, ...]:
    values = np.asarray(table)
    columns = tuple(table.columns) if hasattr(table, "columns") else None
    return values.dtype, values.shape, values.tobytes(), columns


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.batchfix"


@pytest.mark.parametrize("name", CASES)
def test_corrects_bit_for_bit_as_what_was_saved(name: str, path: Path) -> None:
    make, tables, labels = CASES[name]
    model = make()
    save_model(model, path)
    loaded = load_model(path)
    assert type(loaded) is type(model)
    assert repr(loaded) == repr(model)
    assert bits(loaded.transform(*tables, **labels)) == bits(model.transform(*tables, **labels))
    assert list(vars(loaded)) == list(vars(model))
    again = path.with_name("again")
    save_model(loaded, again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("cls", CORRECTORS.values())
def test_every_corrector_has_a_case(cls: type) -> None:
    assert any(type(make()) is cls for make, _, _ in CASES.values())


def test_memory_is_laid_out_as_before(path: Path) -> None:
    """Sums run along memory: another layout could end in another last bit."""
    model = LinearCorrector().fit(FRAME, batch=BATCH, nuisance=KEEP)
    save_model(model, path)
    before, after = model.affine_, load_model(path).affine_
    for name in ("center", "scale", "shift", "loading"):
        a, b = getattr(before, name), getattr(after, name)
        assert (a.strides, a.flags.writeable) == (b.strides, b.flags.writeable)
    assert 0 in after.loading.strides  # one loading for all batches takes the room of one


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    batches=st.integers(2, 5),
    kind=st.sampled_from(["U", "O", "int8", "int64", "bool"]),
    dtype=st.sampled_from([np.float32, np.float64]),
    holes=st.booleans(),
    order=st.sampled_from("CF"),
    corrector=st.sampled_from([ComBat(), ComBat(mean_only=True), BatchCorrector(), LinearCorrector()]),
)
def test_any_table_and_labels(
    path: Path, seed: int, batches: int, kind: str, dtype: type, holes: bool, order: Any, corrector: Any
) -> None:
    random = np.random.default_rng(seed)
    codes = np.arange(30) % (2 if kind == "bool" else batches)
    labels = codes.astype(kind) if kind not in "UO" else np.array([f"r\u00e9{c}" for c in codes], dtype=kind)
    effects = codes[:, None] * np.arange(7)
    table: np.ndarray = np.asarray(
        (random.normal(size=(30, 7)) + effects) * 10.0 ** random.integers(-6, 6), dtype, order
    )
    if holes:
        table[random.random(table.shape) < 0.05] = np.nan
    model = type(corrector)(**corrector.get_params()).fit(table, batch=labels)
    save_model(model, path)
    assert bits(load_model(path).transform(table, batch=labels)) == bits(model.transform(table, batch=labels))


# ------------------------------------------------------------------- life goes on


@pytest.mark.parametrize(
    "corrector", [ComBat(), BatchCorrector(), LinearCorrector(), RenormCorrector(momentum="moments")]
)
def test_partial_fit_and_merge_and_adapt_go_on(corrector: Any, path: Path) -> None:
    first, second = slice(0, N, 2), slice(1, N, 2)
    model = corrector.fit(FRAME[first], batch=BATCH[first])
    save_model(model, path)
    loaded = load_model(path)
    new = FRAME[:12] + 9
    a, b = (each.adapt(new, batch=np.repeat("new", 12)) for each in (model, loaded))
    assert bits(a.transform(new, batch=np.repeat("new", 12))) == bits(b.transform(new, batch=np.repeat("new", 12)))
    save_model(a, path)  # adapted models too
    c = load_model(path)
    assert bits(a.transform(new, batch=np.repeat("new", 12))) == bits(c.transform(new, batch=np.repeat("new", 12)))
    other = type(corrector)(**corrector.get_params()).fit(FRAME[second], batch=np.char.add(BATCH[second], "2"))
    merged = [each.merge(other).transform(FRAME[first], batch=BATCH[first]) for each in (model, loaded)]
    assert bits(merged[0]) == bits(merged[1])
    for each in (model, loaded):
        each.partial_fit(FRAME[second], batch=np.char.add(BATCH[second], "2"))
    assert bits(model.transform(FRAME[first], batch=BATCH[first])) == bits(
        loaded.transform(FRAME[first], batch=BATCH[first])
    )


def test_moments_that_nobody_has_finished_yet(path: Path) -> None:
    model = ComBat().partial_fit(FRAME[::2], batch=BATCH[::2]).partial_fit(FRAME[1::2], batch=BATCH[1::2])
    assert model._solution is None
    save_model(model, path)
    assert model._solution is None  # saving changes nothing
    assert bits(load_model(path).transform(FRAME, batch=BATCH)) == bits(model.transform(FRAME, batch=BATCH))


def test_windows_go_on(path: Path) -> None:
    model = CausalCorrector("rolling", length=9).fit(FRAME.set_axis(DATES))
    save_model(model, path)
    loaded = load_model(path)
    ahead = LATER.set_axis(LATER.index + pd.Timedelta(days=N))
    a, b = (each.partial_fit(LATER).transform(ahead) for each in (model, loaded))
    assert bits(a) == bits(b)


def test_the_saved_model_and_the_loaded_one_share_nothing(path: Path) -> None:
    model = BatchCorrector().fit(X.copy(), batch=BATCH)
    save_model(model, path)
    loaded = load_model(path)
    want = bits(loaded.transform(X, batch=BATCH))
    model.moments_.x.mean[:] = 0
    model.affine_.center[:] = 7
    assert bits(loaded.transform(X, batch=BATCH)) == want


def test_set_output_and_notes_are_kept(path: Path) -> None:
    save_model(BatchCorrector().set_output(transform="pandas").fit(X, batch=BATCH), path, notes={"batch": ["run"]})
    saved = read_model(path)
    assert isinstance(saved.corrector.transform(X, batch=BATCH), pd.DataFrame)
    assert saved.notes == {"batch": ["run"]}
    assert saved.batchfix_version == version("batchfix")


@pytest.mark.parametrize(
    "notes",
    [
        *(["january"], "january", 3, {"n": np.int64(1)}, {"n": np.ones(2)}, {"x": float("nan")}, {"x": -float("inf")}),
        *({(1, 2): 3}, {1: 2}, {None: 1}, {"t": (1, 2)}, {"deep": [{"set": {1}}]}, {"o": object()}),
    ],
    ids=str,
)
def test_notes_that_would_not_come_back(path: Path, notes: Any) -> None:
    with pytest.raises(ArchiveError, match=r"notes must be a dict with text for keys.*, got "):
        save_model(BatchCorrector().fit(X, batch=BATCH), path, notes=notes)
    assert not path.exists()


@pytest.mark.parametrize("notes", [None, {}, {"a": [1, 2.5, None, True, {"b": ["\u00e9", {}]}], "": -0.0}], ids=str)
def test_notes_that_come_back(path: Path, notes: Any) -> None:
    save_model(BatchCorrector().fit(X, batch=BATCH), path, notes=notes)
    assert read_model(path).notes == (notes or {})


def test_the_file_says_what_it_is(path: Path) -> None:
    save_model(ComBat(mean_only=True).fit(FRAME.astype(np.float32), batch=BATCH), path)
    with zipfile.ZipFile(path) as members:
        manifest = json.loads(members.read("manifest.json"))
    assert manifest["kind"] == "batchfix model"
    assert manifest["format_version"] == 1
    assert manifest["class"] == "ComBat"
    assert manifest["parameters"]["mean_only"] is True
    assert manifest["features"] == NAMES
    assert manifest["dtype"] == "float32"
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["a0"].tolist() == ["a", "b", "c"]


# ------------------------------------------------------------------- what cannot be saved


class Mine(ComBat):
    pass


def test_only_fitted_correctors_of_the_library(path: Path) -> None:
    with pytest.raises(NotFittedError):
        save_model(ComBat(), path)
    for other in (Mine().fit(X, batch=BATCH), make_pipeline(InstanceCorrector()).fit(X), {"a": 1}):
        with pytest.raises(ArchiveError, match="A saved model must be one of"):
            save_model(other, path)
    with pytest.raises(ArchiveError, match=r"CompositionalCorrector\.corrector is a .*Mine"):
        save_model(CompositionalCorrector(Mine()).fit(COUNTS, batch=BATCH), path)
    model: Any = BatchCorrector().fit(X, batch=BATCH)
    model.keep_factors = {1, 2}
    with pytest.raises(ArchiveError, match=r"BatchCorrector\.keep_factors is a builtins\.set"):
        save_model(model, path)
    model.keep_factors = np.array([1.0], dtype=np.longdouble)
    with pytest.raises(ArchiveError, match="must be made of numbers"):
        save_model(model, path)
    model.keep_factors, model.handle_unknown = None, "shrug"
    with pytest.raises(ArchiveError, match="must be as fit left it, and this BatchCorrector is not"):
        save_model(model, path)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("wrong", [None, 3, b"model", ["model"]], ids=str)
def test_what_is_no_path(wrong: Any) -> None:
    match = r"The place of a batchfix model must be a path, got .*\. Give the name of a file"
    with pytest.raises(ArchiveError, match=match):
        save_model(BatchCorrector().fit(X, batch=BATCH), wrong)
    with pytest.raises(ArchiveError, match=match):
        load_model(wrong)


# ------------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "m"
    save_model(ComBat().fit(FRAME, **BOTH), path)
    return path.read_bytes()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_wherever_the_damage_is(path: Path, whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "zeros"]))
    if how == "flip":
        broken = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    elif how == "cut":
        broken = whole[:at]
    elif how == "insert":
        broken = whole[:at] + data.draw(st.binary(min_size=1, max_size=3)) + whole[at:]
    else:
        broken = whole[:at] + bytes(len(whole) - at)
    if broken == whole:
        return
    path.write_bytes(broken)
    with pytest.raises(ArchiveError):
        load_model(path)


def test_the_sentences_of_damage(path: Path, whole: bytes, tmp_path: Path) -> None:
    path.write_bytes(whole[:300] + b"?" + whole[301:])
    with pytest.raises(ArchiveError, match="is damaged: its content is not what was written"):
        load_model(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(ArchiveError, match="it is cut short, or another program made it"):
        load_model(path)
    for content in (b"", b"id,f1\n", bytes(500)):
        path.write_bytes(content)
        with pytest.raises(ArchiveError, match="must be a batchfix model, and is none"):
            load_model(path)
    with pytest.raises(ArchiveError, match="does not exist"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ArchiveError, match="is a directory"):
        load_model(tmp_path)


# ------------------------------------------------------------------- files made to mislead


def signed(path: Path, members: list[tuple[Any, bytes]], *, compress: int = zipfile.ZIP_STORED) -> None:
    """A zip file of these members, its digest right."""
    with zipfile.ZipFile(path, "w", compress) as file:
        for name, data in members:
            file.writestr(name, data)
        file.comment = bytes(archive._COMMENT)
    data = path.read_bytes()[: -archive._COMMENT]
    digest = hashlib.sha256(data).hexdigest().encode()
    path.write_bytes(data + archive._MARK + digest)


def opened(data: bytes, path: Path) -> dict[str, bytes]:
    path.write_bytes(data)
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def npy(shape: str, data: bytes, descr: str = "'<f8'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def refuse(path: Path, members: dict[str, bytes], match: str) -> None:
    signed(path, list(members.items()))
    with pytest.raises(ArchiveError, match=match) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def changed(members: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> dict[str, bytes]:
    manifest = json.loads(members["manifest.json"])
    change(manifest)
    return members | {"manifest.json": json.dumps(manifest).encode()}


def test_the_same_members_signed_anew_load(path: Path, whole: bytes) -> None:
    """Or the refusals below would say nothing."""
    signed(path, list(opened(whole, path).items()))
    assert isinstance(load_model(path), ComBat)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a999.npy", "manifest.json/", "evil.py"])
def test_members_that_do_not_belong(path: Path, whole: bytes, name: str) -> None:
    refuse(path, opened(whole, path) | {name: b"evil"}, "holds other members")
    assert not (path.parent.parent / "evil").exists()


def test_members_that_are_missing_twice_there_or_compressed(path: Path, whole: bytes) -> None:
    members = opened(whole, path)
    refuse(path, {name: data for name, data in members.items() if name != "a3.npy"}, "holds other members")
    refuse(path, {name: data for name, data in members.items() if name != "manifest.json"}, "has no manifest")
    with pytest.warns(UserWarning, match="Duplicate"):
        signed(path, [*members.items(), ("a0.npy", members["a0.npy"])])
    with pytest.raises(ArchiveError, match="holds other members"):
        load_model(path)
    signed(path, [*members.items(), ("a99.npy", bytes(10**7))], compress=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5  # a bomb
    with pytest.raises(ArchiveError, match="some are compressed"):
        load_model(path)


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (npy("(10**12,)", b""), "as batchfix writes it"),
        (npy("(1000000000000,)", bytes(8)), "not as long as its header says"),
        (npy("(1000000000000000000000, 0)", b""), "as batchfix writes it"),
        (npy("(-1, -3)", bytes(24)), "has the shape"),
        (npy("(True,)", bytes(8)), "has the shape"),
        (npy("(2,)", bytes(8)), "not as long as its header says"),
        (npy("(1,)", bytes(8), "'|O'"), "holds object"),
        (npy("(1,)", bytes(8), "[('a', '<f8')]"), "as batchfix writes it"),
        (npy("(1,)", bytes(8), "__import__('os').system('touch evil')"), "as batchfix writes it"),
        (b"\x80\x04evil", "as batchfix writes it"),
        (b"", "as batchfix writes it"),
    ],
)
def test_arrays_that_are_none(path: Path, whole: bytes, member: bytes, said: str) -> None:
    refuse(path, opened(whole, path) | {"a0.npy": member}, said)


def deep(manifest: dict[str, Any]) -> None:
    for _ in range(400):
        manifest["model"] = [manifest["model"]]


def put(*where: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Put a value into the manifest; "solution.maps" and the like walk the fields of objects."""

    def change(manifest: dict[str, Any]) -> None:
        at: Any = manifest
        for name in where[:-1]:
            at = at[name]
        at[where[-1]] = value

    return change


FIELDS = ("model", "fields")
STATISTICS = (*FIELDS, "statistics_", "fields")
SOLUTION = (*FIELDS, "_solution", "fields")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("kind", value="batchfix moments"), "is a 'batchfix moments'"),
        (put("format_version", value=2), "has format version 2 .*reads up to 1. Upgrade batchfix"),
        (put("format_version", value="1"), "must say the version of its format"),
        (put("arrays", value=10**9), "holds other members"),
        (put("arrays", value="3"), "does not say so"),
        (put("class", value="LinearCorrector"), "class of the model is not 'LinearCorrector'"),
        (put("notes", value=[]), "notes or version are missing"),
        (put("model", "class", value="Popen"), "'Popen' is no class"),
        (put("model", "class", value="subprocess.Popen"), "is no class"),
        (put("model", "class", value=["ComBat"]), "is no class"),
        (put("model", "class", value="Affine"), "must hold a model"),
        (put("model", "$", value="reduce"), "must hold a model"),
        (put("model", value=None), "class of the model"),
        (put("model", value={"$": "array", "at": 0}), "class of the model"),
        (put(*FIELDS, "transform", value=1), "'transform' is no attribute"),
        (put(*FIELDS, "__class__", value=1), "'__class__' is no attribute"),
        (put(*FIELDS, "batches_", value=1), "'batches_' is no attribute"),
        (put(*FIELDS, "handle_unknown", value="shrug"), "handle_unknown"),
        (put(*FIELDS, "n_features_in_", value=5), "other features than names"),
        (put(*FIELDS, "n_features_in_", value=-5), "n_features_in_"),
        (put(*FIELDS, "_features", value={"$": "slice", "items": [0, 3, None]}), "has the shape"),
        (put(*FIELDS, "_features", value={"$": "slice", "items": [0, "3", None]}), "slice must have whole numbers"),
        (put(*FIELDS, "_features", value={"$": "slice", "items": [9, None, None]}), "has the shape"),
        (put(*FIELDS, "_features", value=[0, 1]), "_features of ComBat is a list"),
        (put(*FIELDS, "_features", value={"$": "array", "at": 0}), "features must be some of 6 columns"),
        (put(*FIELDS, "statistics_", value=3), "must hold a model"),
        (put(*STATISTICS, "evil", value=3), "'evil' is no field of BatchStatistics"),
        (put(*STATISTICS, "batches", value={"$": "array", "at": 10**6}), "there is no array"),
        (put(*STATISTICS, "batches", value={"$": "array", "at": -1}), "there is no array"),
        (put(*STATISTICS, "batches", value={"$": "array", "at": True}), "there is no array"),
        (put(*STATISTICS, "batches", value={"$": "objects", "shape": [9], "items": []}), "must hold a model"),
        (put(*STATISTICS, "batches", value={"$": "objects", "shape": [2], "items": ["a", "b"]}), "has the shape"),
        (put(*SOLUTION, "maps", "fields", "shift", value={"$": "array", "at": 0}), "no array of 2"),
        (put(*SOLUTION, "loads", value={"$": "objects", "shape": [0], "items": []}), "must hold a model"),
        (put(*FIELDS, "tol", value={"$": "number", "dtype": "|O8", "bytes": "00" * 8}), "no dtype of numbers"),
        (put(*FIELDS, "tol", value={"$": "number", "dtype": "<f8", "bytes": "00"}), "must hold a model"),
        (
            put(*FIELDS, "tol", value={"$": "timestamp", "value": 1, "unit": "ns", "zone": "dateutil//etc/x"}),
            "no dtype",
        ),
        (put(*FIELDS, "tol", value={"$": "column", "dtype": "arrow[evil]", "values": []}), "no dtype"),
        (deep, "must hold a model|as batchfix writes it"),
    ],
)
def test_manifests_that_mislead(path: Path, whole: bytes, change: Callable[[Any], None], said: str) -> None:
    refuse(path, changed(opened(whole, path), change), said)


HUGE = 10**12


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (slice(None), "has the shape"),
        (slice(0, 6), "so many others cannot be keys"),
        (np.arange(6), "so many others cannot be keys"),
        (np.arange(6) - 1, "features must be some of"),
        (np.arange(6) + HUGE, "features must be some of"),
        (np.ones(6, dtype=bool), "features must be some of"),
    ],
    ids=str,
)
def test_more_columns_than_memory_holds(features: Any, said: str) -> None:
    model: Any = ComBat().fit(X, **BOTH)
    model.n_features_in_, model._features = HUGE, features
    tracemalloc.start()
    with pytest.raises(ValueError, match=said):
        check_shapes(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("shape", [[HUGE], [HUGE, 1], [2, HUGE], [1 << 20, 1 << 20], [1, (1 << 16) + 1]], ids=str)
@pytest.mark.parametrize("where", [(*STATISTICS, "batches"), (*SOLUTION, "loads"), (*FIELDS, "keep_factors")], ids=str)
def test_one_value_that_stands_for_more_than_memory_holds(path: Path, whole: bytes, where: Any, shape: Any) -> None:
    members = opened(whole, path)
    manifest = json.loads(members["manifest.json"])
    manifest["arrays"] += 1
    members[f"a{manifest['arrays'] - 1}.npy"] = npy("(1,)", bytes(8))
    put(*where, value={"$": "array", "at": manifest["arrays"] - 1, "shape": shape})(manifest)
    refuse(path, members | {"manifest.json": json.dumps(manifest).encode()}, "no array of a model is as large as")


def within(tree: Any, name: str) -> Any:
    """The first dict of a tree that has this key."""
    if isinstance(tree, dict) and name in tree:
        return tree
    inside = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return next((found for each in inside if (found := within(each, name)) is not None), None)


def refuse_changed(path: Path, data: bytes, change: Callable[[Any], object]) -> None:
    """Write a model whose manifest somebody changed, its digest right; it must be refused."""
    members = opened(data, path)
    manifest = json.loads(members["manifest.json"])
    change(manifest["model"])
    signed(path, list((members | {"manifest.json": json.dumps(manifest).encode()}).items()))
    with pytest.raises(ArchiveError, match="must hold a model as batchfix saves it"):
        load_model(path)


@pytest.mark.parametrize("name", CASES)
def test_what_every_fit_leaves_is_listed(name: str, path: Path) -> None:
    """The list of attributes is that of fresh fits; without any of them a file is refused."""
    corrector = CASES[name][0]()
    wanted = FITTED[type(corrector).__name__]
    assert set(wanted) <= set(vars(corrector))
    save_model(corrector, path)
    data = path.read_bytes()
    for each in wanted:
        refuse_changed(path, data, lambda model, each=each: model["fields"].pop(each))  # type: ignore[misc]  # one a loop


@pytest.mark.parametrize(
    ("holder", "field"),
    [("maps", "scale"), ("maps", "shift"), ("maps", "loading"), ("target", "scale"), ("pooled", "location")],
)
def test_parts_of_a_map_must_be_there(path: Path, whole: bytes, holder: str, field: str) -> None:
    refuse_changed(path, whole, lambda model: within(model, holder)[holder]["fields"].update({field: None}))


@pytest.mark.parametrize("item", [-1, [1, 2], None])
def test_names_of_features_must_be_text(path: Path, whole: bytes, item: Any) -> None:
    names = "feature_names_in_"
    refuse_changed(path, whole, lambda model: within(model, names)[names]["items"].__setitem__(2, item))


def test_what_is_an_archive_of_a_kind(path: Path, whole: bytes, tmp_path: Path) -> None:
    path.write_bytes(whole)
    assert archive.is_archive(path, KIND)
    assert not archive.is_archive(path, "batchfix moments")
    for content in (whole[:-1], b"a,b\n1,2\n", b"PK"):
        path.write_bytes(content)
        assert not archive.is_archive(path, KIND)
    path.write_bytes(b"")
    assert archive.is_archive(path, KIND)


def test_json_that_is_none(path: Path, whole: bytes) -> None:
    members = opened(whole, path)
    for text in (b"", b"[1]", b"null", b"[" * 10**5, b'{"kind": NaN}', b"\xff", b'{"arrays": ' + b"9" * 5000 + b"}"):
        refuse(path, members | {"manifest.json": text}, "model")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), byte=st.integers(1, 255), more=st.integers(0, 10**6))
def test_damage_that_was_signed_is_found_by_the_parsers(
    path: Path, whole: bytes, at: int, byte: int, more: int
) -> None:
    """Headers are parsed with care: whatever they say, a sentence comes out, or the model that was saved."""
    body = bytearray(whole[: -archive._COMMENT])
    body[at % len(body)] ^= byte
    tail = len(body) - 1 - more % 3000  # where the directory is
    body[tail] ^= byte
    path.write_bytes(bytes(body) + archive._MARK + hashlib.sha256(body).hexdigest().encode())
    try:
        loaded = load_model(path)
    except ArchiveError:
        return
    assert bits(loaded.transform(FRAME, **BOTH)) == bits(ComBat().fit(FRAME, **BOTH).transform(FRAME, **BOTH))


def leaves(node: Any) -> list[tuple[Any, Any]]:
    """Places in a manifest: containers and keys."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []
    return [place for key, child in pairs for place in [(node, key), *leaves(child)]]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_manifest_makes_anything_but_a_corrector_or_a_sentence(
    path: Path, whole: bytes, data: st.DataObject
) -> None:
    members = opened(whole, path)
    manifest = json.loads(members["manifest.json"])
    places = leaves(manifest)
    for _ in range(data.draw(st.integers(1, 3))):
        node, key = data.draw(st.sampled_from(places))
        value = data.draw(
            st.none()
            | st.booleans()
            | st.integers(-3, 10**20)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=5)
            | st.sampled_from([*CLASSES, "dict", "tuple", "series", "index", "frame", "categorical", "float"])
            | st.sampled_from(
                [{"$": "array", "at": 0}, {"$": "tuple", "items": []}, [], {}, {"$": "float", "is": "nan"}]
            )
        )
        node[key] = value
    signed(path, list((members | {"manifest.json": json.dumps(manifest).encode()}).items()))
    try:
        loaded = load_model(path)
    except ArchiveError:
        return
    assert type(loaded) in CORRECTORS.values()


def test_only_correctors_and_frozen_dataclasses_are_made() -> None:
    for name, cls in CLASSES.items():
        assert name == cls.__name__
        assert cls.__module__.startswith("batchfix.")
        assert issubclass(cls, BaseEstimator) or (is_dataclass(cls) and cls.__dataclass_params__.frozen)  # type: ignore[attr-defined]


# ------------------------------------------------------------------- versions


def test_another_version_of_batchfix_loads_and_is_noted(
    path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    signed(path, list(changed(opened(whole, path), put("batchfix_version", value="0.0.9")).items()))
    with caplog.at_level(logging.INFO):
        assert isinstance(load_model(path), ComBat)
    assert "was saved by batchfix 0.0.9" in caplog.text


def test_parameters_that_a_later_version_added_are_at_their_defaults(path: Path, whole: bytes) -> None:
    def older(manifest: dict[str, Any]) -> None:
        del manifest["model"]["fields"]["scale_guard"]

    signed(path, list(changed(opened(whole, path), older).items()))
    loaded = load_model(path)
    assert loaded.scale_guard == ComBat().scale_guard
    assert loaded.transform(FRAME, **BOTH).shape == FRAME.shape


# ------------------------------------------------------------------- writing


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("x")])
def test_a_crash_leaves_the_old_file(path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    path.write_bytes(whole)
    real, calls = np.lib.format.write_array, []

    def fail(*args: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) > 4:
            raise error
        real(*args, **options)

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(ArchiveError if isinstance(error, OSError) else type(error)):
        save_model(BatchCorrector().fit(X, batch=BATCH), path)
    assert path.read_bytes() == whole
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_many_may_write_and_read_at_once(path: Path) -> None:
    models = [BatchCorrector().fit(X[:, :p], batch=BATCH) for p in (2, 4, 6)]
    save_model(models[0], path)
    stop, found, errors = threading.Event(), set(), []

    def read() -> None:
        try:
            while not stop.is_set():
                found.add(load_model(path).n_features_in_)
        except Exception as error:  # noqa: BLE001  (it belongs to the test, which runs elsewhere)
            errors.append(error)

    def write(model: Any) -> None:
        for _ in range(5):
            save_model(model, path)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(model,)) for model in models]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert errors == []
    assert found <= {2, 4, 6}
    assert load_model(path).n_features_in_ in (2, 4, 6)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    model = InstanceCorrector().fit(X)
    with pytest.raises(ArchiveError, match="is a directory"):
        save_model(model, tmp_path)
    with pytest.raises(ArchiveError, match="output's directory must exist"):
        save_model(model, tmp_path / "no" / "m")
    (tmp_path / "m").write_bytes(b"old")
    (tmp_path / "m").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "m")
    save_model(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o640
    assert isinstance(load_model(tmp_path / "m"), InstanceCorrector)
