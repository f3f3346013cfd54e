"""`batchfix apply`: the numbers of the saved model, and nothing guessed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from batchfix.adapters.storage import load_model, read_model, save_model
from batchfix.cli import main
from batchfix.command.methods import METHODS
from batchfix.correctors import (
    BatchCorrector,
    CausalCorrector,
    ComBat,
    CompositionalCorrector,
    GroupCorrector,
    InstanceCorrector,
    LinearCorrector,
    LogRatio,
)

FEATURES = [f"f{i}" for i in range(6)]


def lab(n: int = 30, runs: tuple[str, ...] = ("01", "02"), seed: int = 3) -> pd.DataFrame:
    """Samples of some runs: labels, features, and a stage that is neither."""
    rng = np.random.default_rng(seed)
    run = np.resize(np.array(runs, dtype=object), n)
    group = np.resize(np.array(["case", "control", "control"], dtype=object), n)
    X = rng.normal(size=(n, len(FEATURES))) + (run == "02")[:, None] * 3.0 + (group == "case")[:, None]
    frame = pd.DataFrame(X, columns=FEATURES, index=pd.Index([f"s{seed}{i:02d}" for i in range(n)], name="sample"))
    frame.insert(0, "run", run)
    frame["group"] = group
    frame["age"] = rng.uniform(30, 80, size=n).round(1)
    frame["stage"] = rng.integers(1, 4, size=n).astype(str)
    return frame


def save(frame: pd.DataFrame, name: str) -> None:
    frame.to_csv(name)


def load(name: str) -> pd.DataFrame:
    return pd.read_csv(name, index_col=0, float_precision="round_trip")


def run(command: str, options: str) -> int:
    return main([command, *shlex.split(options)])


@pytest.fixture
def january(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> pd.DataFrame:
    """A table in jan.csv, corrected, its model in m; and feb.csv with its columns in another order."""
    monkeypatch.chdir(tmp_path)
    save(lab(), "jan.csv")
    assert run("correct", "jan.csv -o out.csv --batch run --keep group,age --ignore stage --save-model m") == 0
    assert "wrote out.csv\nwrote m\n" in capsys.readouterr().out
    february = lab(12, seed=4)
    save(february[["age", *FEATURES[::-1], "stage", "group", "run"]], "feb.csv")
    return february


Refused = Callable[[str, str], str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run `apply` with options; it must exit with 2, one line on stderr, nothing written."""

    def apply(options: str, message: str) -> str:
        before = sorted(path.name for path in Path().iterdir())
        capsys.readouterr()
        assert run("apply", options) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("batchfix: ")
        assert err.count("\n") == 1
        assert message in err
        assert sorted(path.name for path in Path().iterdir()) == before
        return err

    return apply


# ------------------------------------------------------------------- results


def test_the_model_is_that_of_correct(january: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    frame = lab()
    kept = frame[["group", "age"]]
    direct = ComBat().fit(frame[FEATURES], batch=frame["run"], keep=kept)
    assert run("apply", "feb.csv --model m -o new.csv") == 0
    out = load("new.csv")
    want = direct.transform(january[FEATURES], batch=january["run"], keep=january[["group", "age"]])
    np.testing.assert_array_equal(out[FEATURES], want)
    assert list(out.index) == list(january.index)
    assert [name for name in out.columns if name in FEATURES] == FEATURES  # the model's order
    assert list(out["stage"].astype(str)) == list(january["stage"])
    printed, err = capsys.readouterr()
    assert err == ""
    assert "12 samples x 6 features corrected by ComBat of m\n" in printed
    assert "run: 2 batches: '01' (6), '02' (6)\nkept: group, age\n" in printed
    assert printed.endswith("wrote new.csv\n")


def test_the_same_table_comes_out_as_correct_wrote_it(january: pd.DataFrame) -> None:
    assert run("apply", "jan.csv --model m -o again.csv") == 0
    assert Path("again.csv").read_bytes() == Path("out.csv").read_bytes()


def test_as_json(january: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    january["run"] = ["01"] * 6 + ["03"] * 6
    save(january, "feb.csv")
    capsys.readouterr()
    assert run("apply", "feb.csv --model m -o new.csv --unknown pooled --json") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["corrector"] == "ComBat"
    assert done["batches"] == {"run": {"01": {"samples": 6, "known": True}, "03": {"samples": 6, "known": False}}}
    assert done["unknown"] == "pooled"
    assert done["kept"] == ["group", "age"]
    assert done["carried"] == ["run", "group", "age", "stage"]
    assert done["output"] == "new.csv"


@pytest.mark.parametrize("unknown", ["pooled", "nan", "adapt"])
def test_unknown_batches(january: pd.DataFrame, unknown: str, capsys: pytest.CaptureFixture[str]) -> None:
    january["run"] = ["01"] * 2 + ["03"] * 10
    save(january, "feb.csv")
    assert run("apply", f"feb.csv --model m -o new.csv --unknown {unknown}") == 0
    model = load_model("m").set_params(handle_unknown=unknown)
    want = model.transform(january[FEATURES], batch=january["run"], keep=january[["group", "age"]])
    np.testing.assert_array_equal(load("new.csv")[FEATURES], want)
    assert np.isnan(want.to_numpy()[2:]).all() == (unknown == "nan")
    assert "'03' (10, new)" in capsys.readouterr().out


def test_samples_in_columns_with_metadata(january: pd.DataFrame) -> None:
    save(january[FEATURES[::-1]].T, "x.csv")
    save(january[["group", "age", "run"]].iloc[::-1], "meta.csv")
    assert run("apply", "x.csv --metadata meta.csv --model m -o new.csv") == 0
    assert run("apply", "feb.csv --model m -o rows.csv") == 0
    out = load("new.csv")
    assert list(out.index) == FEATURES
    np.testing.assert_array_equal(out.T, load("rows.csv")[FEATURES])


def test_kept_columns_that_the_map_does_not_need_may_be_absent(january: pd.DataFrame) -> None:
    frame = lab()
    model = ComBat(keep_at_transform=False).fit(frame[FEATURES], batch=frame["run"], keep=frame[["group"]])
    save_model(model, "spared", notes={"batch": ["run"]})
    save(january[["run", *FEATURES]], "feb.csv")
    assert run("apply", "feb.csv --model spared -o new.csv") == 0
    np.testing.assert_array_equal(load("new.csv")[FEATURES], model.transform(january[FEATURES], batch=january["run"]))


def test_kept_columns_help_to_learn_a_new_batch(january: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--method linear --batch run --keep group --ignore stage,age"
    assert run("correct", f"jan.csv -o out.csv {options} --save-model linear") == 0
    january["run"] = ["01"] * 2 + ["03"] * 10
    january.iloc[0, january.columns.get_loc("group")] = None  # not needed of a known batch
    save(january, "feb.csv")
    assert run("apply", "feb.csv --model linear --unknown pooled -o new.csv") == 0
    assert capsys.readouterr().err == ""
    january["group"] = lab(12, seed=4)["group"]
    save(january, "feb.csv")
    assert run("apply", "feb.csv --model linear --unknown adapt -o new.csv") == 0
    model = load_model("linear").set_params(handle_unknown="adapt")
    want = model.transform(january[FEATURES], batch=january["run"], keep=january[["group"]])
    np.testing.assert_array_equal(load("new.csv")[FEATURES], want)
    assert capsys.readouterr().err == ""
    save(january.drop(columns="group"), "feb.csv")
    assert run("apply", "feb.csv --model linear --unknown adapt -o new.csv") == 0
    assert "learned without ['group']" in capsys.readouterr().err


def test_a_composition_learns_a_new_batch(january: pd.DataFrame) -> None:
    frame = lab(40)[["run", *FEATURES]]
    frame[FEATURES] = np.random.default_rng(0).integers(0, 90, size=(40, len(FEATURES)))
    save(frame, "jan.csv")
    assert run("correct", "jan.csv -o out.csv --batch run --method clr-location-scale --save-model c") == 0
    save(frame.assign(run="03"), "new_in.csv")
    assert run("apply", "new_in.csv --model c --unknown adapt -o new.csv") == 0
    model = load_model("c")
    model.corrector_.set_params(handle_unknown="adapt")
    want = model.transform(frame[FEATURES], batch=["03"] * 40)
    np.testing.assert_array_equal(load("new.csv").drop(columns="run"), want)


def test_columns_named_by_numbers(january: pd.DataFrame) -> None:
    frame = lab()
    model = BatchCorrector().fit(pd.DataFrame(frame[FEATURES].to_numpy()), batch=frame["run"].to_numpy())
    save_model(model, "numbered")
    table = january[FEATURES].set_axis(range(6), axis=1)
    save(table.iloc[:, ::-1].assign(run=january["run"]), "feb.csv")
    assert run("apply", "feb.csv --model numbered --batch run -o new.csv") == 0
    want = model.transform(table, batch=january["run"])
    np.testing.assert_array_equal(load("new.csv")[[str(k) for k in range(6)]], want)


def test_nuisance_and_two_batch_factors(january: pd.DataFrame) -> None:
    frame = lab().assign(site=np.resize(["x", "x", "y", "y"], 30))
    save(frame, "jan.csv")
    options = "--method linear --batch run,site --keep group --nuisance age --ignore stage"
    assert run("correct", f"jan.csv -o out.csv {options} --save-model linear") == 0
    assert run("apply", "jan.csv --model linear -o again.csv") == 0
    assert Path("again.csv").read_bytes() == Path("out.csv").read_bytes()


@pytest.mark.parametrize("method", [name for name, each in METHODS.items() if each.peers is None])
def test_every_method_between_batches(method: str, january: pd.DataFrame) -> None:
    frame = lab(40)
    if METHODS[method].composition:
        frame[FEATURES] = np.random.default_rng(0).integers(1, 90, size=(40, len(FEATURES)))
    save(frame.drop(columns=["group", "age", "stage"]), "jan.csv")
    assert run("correct", f"jan.csv -o out.csv --batch run --method {method} --save-model saved") == 0
    assert read_model("saved").notes == {"method": method, "batch": ["run"], "ignore": []}
    assert run("apply", "jan.csv --model saved -o again.csv") == 0
    np.testing.assert_array_equal(load("again.csv"), load("out.csv"))


def test_counts_come_back_as_counts(january: pd.DataFrame) -> None:
    frame = lab(40)
    frame[FEATURES] = np.random.default_rng(0).integers(0, 90, size=(40, len(FEATURES)))
    save(frame[["run", *FEATURES]], "jan.csv")
    assert run("correct", "jan.csv -o out.csv --batch run --method clr-combat --write counts --save-model c") == 0
    assert run("apply", "jan.csv --model c -o again.csv") == 0
    assert Path("again.csv").read_bytes() == Path("out.csv").read_bytes()


# ------------------------------------------------------------------- models saved from Python


@pytest.mark.parametrize(
    ("labels", "new"),
    [([1, 2], 3), ([10, 20], 15), ([True, False], None), (np.array(["2026-01-01", "2026-01-02"], "M8[D]"), None)],
)
def test_labels_of_other_kinds(labels: Any, new: Any, january: pd.DataFrame, refused: Refused) -> None:
    frame = lab()
    batch = np.resize(np.asarray(labels), 30)
    model = BatchCorrector().fit(frame[FEATURES], batch=batch)
    save_model(model, "kinds")
    save(frame[FEATURES].assign(plate=batch), "new_in.csv")
    refused("new_in.csv --model kinds -o new.csv", "--batch must name the 1 column of batches")
    assert run("apply", "new_in.csv --model kinds --batch plate -o new.csv") == 0
    np.testing.assert_array_equal(load("new.csv")[FEATURES], model.transform(frame[FEATURES], batch=batch))
    save(frame[FEATURES].assign(plate="r1"), "bad.csv")
    refused("bad.csv --model kinds --batch plate -o no.csv", "must hold labels like those of the model")
    if new is not None:
        save(frame[FEATURES].assign(plate=new), "other.csv")
        refused("other.csv --model kinds --batch plate -o no.csv", f"and {new!r} of column 'plate' is not")


def test_a_model_with_keys(january: pd.DataFrame) -> None:
    frame = lab().drop(columns=["stage"])
    model = ComBat(batch_key="run", keep_keys=["group", "age"]).fit(frame)
    save_model(model, "keys")
    assert run("apply", "feb.csv --model keys --ignore stage -o new.csv") == 0
    table = january[["run", *FEATURES, "group", "age"]]
    np.testing.assert_array_equal(load("new.csv")[FEATURES], model.transform(table)[FEATURES])
    renamed = january.rename(columns={"run": "plate"})
    save(renamed, "plate.csv")
    assert run("apply", "plate.csv --model keys --batch plate --ignore stage -o plates.csv") == 0
    np.testing.assert_array_equal(load("plates.csv")[FEATURES], load("new.csv")[FEATURES])


def test_keys_of_a_composition_and_of_index_levels(january: pd.DataFrame) -> None:
    frame = lab()[["run", *FEATURES]]
    frame[FEATURES] = np.random.default_rng(0).integers(1, 90, size=(30, len(FEATURES)))
    model = CompositionalCorrector(batch_key="run").fit(frame)
    save_model(model, "keys")
    save(frame, "counts.csv")
    assert run("apply", "counts.csv --model keys -o new.csv") == 0
    np.testing.assert_array_equal(load("new.csv")[model.get_feature_names_out()], model.transform(frame))
    frame[FEATURES] = lab()[FEATURES]
    save(frame, "counts.csv")
    level = BatchCorrector(batch_key="run").fit(frame.set_index("run", append=True))
    save_model(level, "level")
    assert run("apply", "counts.csv --model level -o new.csv") == 0
    want = level.transform(frame.set_index("run", append=True))
    np.testing.assert_array_equal(load("new.csv")[FEATURES], want)


def test_features_without_names(january: pd.DataFrame, capsys: pytest.CaptureFixture[str], refused: Refused) -> None:
    frame = lab()
    save_model(LinearCorrector().fit(frame[FEATURES].to_numpy(), batch=frame["run"].to_numpy()), "bare")
    save(january[["run", *FEATURES]], "feb.csv")
    assert run("apply", "feb.csv --model bare --batch run -o new.csv") == 0
    assert "by position only" in capsys.readouterr().err
    want = load_model("bare").transform(january[FEATURES].to_numpy(), batch=january["run"].to_numpy())
    np.testing.assert_array_equal(load("new.csv")[FEATURES], want)
    save(january[["run", *FEATURES[1:]]], "feb.csv")
    refused("feb.csv --model bare --batch run -o no.csv", "must have the 6 features of the model, and has 5")
    save_model(ComBat(batch_key=0).fit(np.c_[np.resize([0.0, 1.0], 30), frame[FEATURES]]), "at")
    refused("feb.csv --model at -o no.csv", "finds them in column 0 of an array")


# ------------------------------------------------------------------- models without batches


def test_sectors_of_a_wide_table(january: pd.DataFrame) -> None:
    frame = lab()[FEATURES]
    save(frame, "wide.csv")
    Path("sectors.csv").write_text("stock,sector\n" + "".join(f"{f},{'ab'[k % 2]}\n" for k, f in enumerate(FEATURES)))
    options = "--method sector-zscore --groups sectors.csv --group-stats"
    assert run("correct", f"wide.csv -o out.csv {options} --save-model g") == 0
    save(frame[FEATURES[::-1]], "new_in.csv")
    assert run("apply", "new_in.csv --model g -o new.csv") == 0
    pd.testing.assert_frame_equal(load("new.csv"), load("out.csv"))


def test_sectors_of_a_long_table(january: pd.DataFrame) -> None:
    long = lab()[["f0", "f1"]].assign(date=np.repeat(["2026-01-01", "2026-01-02", "2026-01-05"], 10), sector="t")
    long.loc[long.index[::2], "sector"] = "u"
    save(long, "long.csv")
    options = "--method sector-zscore --within date --by sector"
    assert run("correct", f"long.csv -o out.csv {options} --save-model g") == 0
    assert run("apply", "long.csv --model g -o new.csv") == 0
    pd.testing.assert_frame_equal(load("new.csv"), load("out.csv"))
    days = long.set_index("date")  # dates as the first column, which need not differ
    save(days, "days.csv")
    assert run("apply", "days.csv --model g -o new.csv") == 0
    np.testing.assert_array_equal(load("new.csv")[["f0", "f1"]], load("out.csv")[["f0", "f1"]])


def test_rows_and_log_ratios(january: pd.DataFrame) -> None:
    frame = lab()[FEATURES]
    save(frame.abs(), "wide.csv")
    for model in (InstanceCorrector(), LogRatio("ilr"), GroupCorrector(scale=None)):
        save_model(model.fit(frame.abs()), "one")
        assert run("apply", "wide.csv --model one -o new.csv") == 0
        np.testing.assert_array_equal(load("new.csv"), model.transform(load("wide.csv")))


def test_history_goes_on(january: pd.DataFrame, refused: Refused) -> None:
    frame = lab(40)[FEATURES]
    frame.index = pd.Index([f"{day:%Y-%m-%d}" for day in pd.date_range("2026-01-01", periods=40)], name="date")
    save(frame, "all.csv")
    save(frame[:30], "past.csv")
    save(frame[30:], "new_in.csv")
    assert run("correct", "all.csv -o out.csv --method history-zscore") == 0
    assert run("correct", "past.csv -o past_out.csv --method history-zscore --save-model h") == 0
    assert run("apply", "new_in.csv --model h -o new.csv") == 0
    # one pass over all rows gives these, but for the order of sums
    np.testing.assert_allclose(load("new.csv"), load("out.csv")[30:], rtol=1e-12)
    refused("past.csv --model h -o no.csv", "Rows must be later than those already seen")
    save(frame.set_axis([f"r{i}" for i in range(40)]), "rows.csv")
    refused("rows.csv --model h -o no.csv", "must hold times of the kind that the model knows (datetime)")


def test_history_of_a_long_table(january: pd.DataFrame) -> None:
    day = np.repeat([f"{d:%Y-%m-%d}" for d in pd.date_range("2026-01-01", periods=15)], 2)
    long = lab()[["f0", "f1"]].assign(date=day, symbol=np.resize(["A", "B"], 30))
    table = long.assign(date=pd.to_datetime(long["date"]))
    model = CausalCorrector(time="date", by="symbol").fit(table[:20])
    save_model(model, "h")
    save(long[20:], "new_in.csv")
    assert run("apply", "new_in.csv --model h -o new.csv") == 0
    np.testing.assert_array_equal(load("new.csv")[["f0", "f1"]], model.transform(table[20:])[["f0", "f1"]])


# ------------------------------------------------------------------- refusals


def test_features_must_be_those_of_the_model(january: pd.DataFrame, refused: Refused) -> None:
    save(january.drop(columns="f2").assign(F2=1.0), "lost.csv")
    refused("lost.csv --model m -o no.csv", "lacks 'f2' (did you mean 'F2'?) (1 of 6); add it")
    save(january.assign(extra=1.0), "more.csv")
    refused("more.csv --model m -o no.csv", "'extra' is none; carry it along unchanged with --ignore extra")
    assert run("apply", "more.csv --model m --ignore extra -o new.csv") == 0
    save(january[FEATURES].assign(extra=1.0).T, "t.csv")
    save(january[["run", "group", "age"]], "meta.csv")
    refused("t.csv --metadata meta.csv --model m -o no.csv", "every row of 't.csv' must be a feature of the model")


def test_labels_must_be_there(january: pd.DataFrame, refused: Refused) -> None:
    save(january.drop(columns="age"), "lost.csv")
    refused("lost.csv --model m -o no.csv", "must have a column 'age', because the model corrects a sample by it")
    save(january.drop(columns="run"), "lost.csv")
    refused("lost.csv --model m -o no.csv", "has no 'run'")
    refused("feb.csv --model m --batch age -o no.csv", "'age' is kept by the model")
    refused("feb.csv --model m --ignore age -o no.csv", "the model needs column 'age', and --ignore names it")
    refused("feb.csv --model m --batch run,stage -o no.csv", "--batch must name the 1 column")
    save(january.assign(group="other"), "level.csv")
    refused("level.csv --model m -o no.csv", "'other'")


def test_new_batches_must_be_spoken_of(january: pd.DataFrame, refused: Refused) -> None:
    save(january.assign(run=["01"] * 11 + ["011"]), "new_in.csv")
    refused("new_in.csv --model m -o no.csv", "'011' of column 'run' is not (did you mean '01'?)")
    refused("new_in.csv --model m --unknown adapt -o no.csv", "learns a batch from two samples or more")
    assert run("apply", "new_in.csv --model m --unknown pooled -o new.csv") == 0


def test_options_that_say_nothing(january: pd.DataFrame, refused: Refused) -> None:
    save_model(InstanceCorrector().fit(lab()[FEATURES]), "one")
    refused("feb.csv --model one --batch run -o no.csv", "--batch speaks of batches, and a InstanceCorrector has none")
    with pytest.warns(match="without batch labels"):
        save_model(BatchCorrector().fit(lab()[FEATURES]), "none")
    refused("feb.csv --model none --batch run -o no.csv", "fitted without batches")


def test_files_that_are_no_models(january: pd.DataFrame, refused: Refused) -> None:
    refused("feb.csv --model nowhere -o no.csv", "'nowhere' does not exist")
    refused("feb.csv --model feb.csv -o no.csv", "'feb.csv' must be a batchfix model, and is none")
    data = Path("m").read_bytes()
    Path("cut").write_bytes(data[:-1])
    refused("feb.csv --model cut -o no.csv", "cut short")
    refused("feb.csv --model m -o feb.csv", "which would be lost")


def test_notes_that_are_none(january: pd.DataFrame, refused: Refused) -> None:
    save_model(load_model("m"), "m", notes={"batch": {"run": 1}})
    refused("feb.csv --model m -o no.csv", "the notes of a model must be names of columns")


def test_the_model_has_a_file_of_its_own(january: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    for options in ("--save-model jan.csv", "--save-model new.csv", "--save-model ./jan.csv", "--save-model no/m"):
        assert run("correct", f"jan.csv -o new.csv --batch run --keep group,age --ignore stage {options}") == 2
        assert capsys.readouterr().err.count("\n") == 1
    Path("x.csv").symlink_to("m")
    assert run("apply", "feb.csv --model m -o x.csv") == 2
    assert "the output must have a file of its own" in capsys.readouterr().err
    Path("x.csv").unlink()
    assert run("correct", "jan.csv -o new.csv --batch run --keep group,age --ignore stage --save-model feb.csv") == 2
    assert "the model may replace an older one and nothing else" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before
    assert run("correct", "jan.csv -o new.csv --batch run --keep group,age --ignore stage --save-model m") == 0
    assert "wrote m, replacing the file that was there" in capsys.readouterr().out


def test_a_model_whose_parts_do_not_fit_is_a_sentence(
    january: pd.DataFrame, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever somebody made of a model, no traceback comes of it."""
    for error in (AttributeError("no such thing"), TypeError("None has no len"), IndexError("out of range")):

        def broken(*_: Any, error: Exception = error, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(ComBat, "transform", broken)
        said = refused("feb.csv --model m -o no.csv", "its parts do not fit each other")
        assert f"({type(error).__name__}: {error})" in said


def test_a_mistake_is_json_too(january: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ("--model nowhere", "--model m --batch nothing", "--model"):
        assert run("apply", f"feb.csv -o no.csv --json {options}") == 2
        out, err = capsys.readouterr()
        assert err.startswith(f"batchfix: {json.loads(out)['error']}")
