"""Tables come in as they are written and go out with every digit."""

from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchfix.adapters.tables import (
    MISSING,
    NotNumericError,
    Table,
    TableError,
    atomic_write,
    check_output,
    number,
    open_table,
    read_header,
    read_table,
    read_text,
    write_table,
)
from batchfix.exceptions import BatchfixError

HARD_FLOATS = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 123456789.12345679, 0.30000000000000004]


def put(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def small(numbers: np.ndarray | None = None) -> Table:
    numbers = np.array([[0.1, np.nan], [2.0, 1 / 3]]) if numbers is None else numbers
    return Table("sample", ["007", "b,2"], ["f1", "run", "f2"], numbers, {"run": ["01", 'a "b"']})


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.TSV.GZ", "t.parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    table = small()
    write_table(table, tmp_path / name)
    again = read_table(tmp_path / name, text=["run"])
    assert (again.id_name, again.ids, again.columns, again.text) == ("sample", table.ids, table.columns, table.text)
    np.testing.assert_array_equal(again.numbers, table.numbers)
    assert again.number_columns == ["f1", "f2"]
    assert names(tmp_path) == [name]


def test_format_follows_the_extension(tmp_path: Path) -> None:
    write_table(small(), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == 'sample,f1,run,f2\n007,0.1,01,\n"b,2",2.0,"a ""b""",0.3333333333333333\n'
    write_table(small(), tmp_path / "t.tsv.gz")
    with gzip.open(tmp_path / "t.tsv.gz", "rt") as lines:
        assert lines.readline() == "sample\tf1\trun\tf2\n"


def test_gzip_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    write_table(small(), tmp_path / "a.csv.gz")
    write_table(small(), tmp_path / "b.csv.gz")
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


def test_every_digit_survives(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**63, size=500, dtype=np.int64).view(np.float64)
    values = np.concatenate([HARD_FLOATS, bits[np.isfinite(bits)]])
    path = tmp_path / "t.csv"
    columns = [f"f{i}" for i in range(len(values))]
    write_table(Table("id", ["s"], columns, values[None, :], {}), path)
    again = read_table(path).numbers[0]
    assert again.tobytes() == values.tobytes()


def test_float32_is_written_with_its_own_digits(tmp_path: Path) -> None:
    values = np.array([[0.1, np.nan, 1e-7, 16777216.0]], dtype=np.float32)
    path = tmp_path / "t.csv"
    write_table(Table("id", ["s"], ["a", "b", "c", "d"], values, {}), path)
    assert path.read_text().splitlines()[1] == "s,0.1,,1e-07,1.6777216e+07"
    np.testing.assert_array_equal(read_table(path).numbers.astype(np.float32), values)


def test_ids_and_text_stay_strings(tmp_path: Path) -> None:
    path = put(tmp_path, "id,run,f1\n007,01,1\nNA,1.0,2\n1e3, x ,3\n")
    table = read_table(path, text=["run"])
    assert table.ids == ["007", "NA", "1e3"]
    assert table.text == {"run": ["01", "1.0", " x "]}


def test_read_text_takes_every_column_as_text(tmp_path: Path) -> None:
    table = read_text(put(tmp_path, "id\trun\tage\ns1\t01\t\n", "m.tsv"))
    assert table.text == {"run": ["01"], "age": [""]}
    assert table.numbers.shape == (1, 0)


@pytest.mark.parametrize("cell", sorted(MISSING))
def test_missing_cells_are_nan(tmp_path: Path, cell: str) -> None:
    assert math.isnan(number(f" {cell} "))
    assert np.isnan(read_table(put(tmp_path, f"id,f1,f2\ns1,{cell},1\n")).numbers[0]).tolist() == [True, False]


def test_byte_order_mark_blank_lines_and_windows_lines(tmp_path: Path) -> None:
    path = put(tmp_path, "\ufeffid,f1,f2\r\n\r\ns1,1, 2.5 \r\ns2,3,+4e0\r\n\r\n")
    table = read_table(path)
    assert (table.id_name, table.ids) == ("id", ["s1", "s2"])
    assert table.numbers.tolist() == [[1.0, 2.5], [3.0, 4.0]]


def test_a_header_without_a_name_for_the_ids(tmp_path: Path) -> None:
    path = put(tmp_path, ",f1\ns1,1\n")
    assert read_header(path) == ["", "f1"]
    write_table(read_table(path), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == ",f1\ns1,1.0\n"


def test_quoted_cells_may_hold_delimiters_and_line_ends(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, 'id,"f,1","f\n2"\n"s,1","1",2\n'))
    assert (table.ids, table.columns, table.numbers.tolist()) == (["s,1"], ["f,1", "f\n2"], [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold a header and rows, and is empty"),
        ("\n\n", "is empty"),
        ("id,f1\n", "has a header only"),
        ("id\ns1\n", r"has one column, 'id'\. Is it separated by something else"),
        ("id;f1\ns1;1\n", "has one column, 'id;f1'"),
        ("id,f1,f2\ns1,1,2\ns2,1\n", r"as the header, 3, and line 3 \(row 's2'\) has 2"),
        ("id,f1,f2\ns1,1,2\ns2,1,2,3\n", r"line 3 \(row 's2'\) has 4"),
        ("id,f1,f2\ns1,1\n", r"line 2 \(row 's1'\) has 2"),
        ("f1,f2\ns1,1,2\n", r"the column of ids has no name.*col\.names=NA"),
        ("id,f1,,\ns1,1,,\n", r"column 3 has none \(2 in all\)"),
        ("id,f1\n,1\n", "line 2 has none"),
        ("id,f1,f2,f1\ns1,1,2,3\n", "column names of .* must be unique; repeated: 'f1'"),
        ("id,f1\ns1,1\ns2,1\ns1,2\n", "row ids of .* must be unique; repeated: 's1'"),
        ('id,f1\n"s1,1\n', "must be well quoted, and line 2 is not"),
        ("id,f1\ns1,1\ns2,x\n", "row 's2', column 'f1' holds 'x'"),
        ("id,f1\ns1,1\ns2,1_000\n", "holds '1_000'"),
        ("id,f1\ns1,1\ns2,\u0663\n", "column 'f1' holds"),
        ("id,f1\ns1,1\ns2,inf\n", "must be a finite number or empty, and row 's2', column 'f1' holds 'inf'"),
        ("id,f1\ns1,1\ns2,1e999\n", "holds '1e999'"),
        ("id,f1\ns1,1\ns2,0x1A\n", "holds '0x1A'"),
        ('id,f1,f2\ns1,1,2\ns2,"1,5",q\n', r"column 'f1' holds '1,5' \(2 columns have such cells\)"),
    ],
)
def test_what_is_no_table_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    path = put(tmp_path, text)
    with pytest.raises(TableError, match=message) as caught:
        read_table(path)
    assert "t.csv" in str(caught.value)
    assert isinstance(caught.value, BatchfixError)


def test_columns_of_text_are_named(tmp_path: Path) -> None:
    path = put(tmp_path, "id,group,f1,site\ns1,case,1,x\ns2,,2,y\n")
    with pytest.raises(NotNumericError, match=r"'group', 'site' hold text \(row 's1': 'case'\)") as caught:
        read_table(path)
    assert caught.value.columns == ("group", "site")
    assert read_table(path, text=["group", "site"]).numbers.tolist() == [[1.0], [2.0]]


def test_text_must_be_there(tmp_path: Path) -> None:
    path = put(tmp_path, "id,group,f1\ns1,case,1\n")
    with pytest.raises(TableError, match=r"has no 'gruop' \(did you mean 'group'\?\)"):
        read_table(path, text=["gruop"])


def test_a_stray_quote_shows_the_delimiter(tmp_path: Path) -> None:
    path = put(tmp_path, 'id\tf1\ns1\t"a" b\n', "t.tsv")
    with pytest.raises(TableError, match="line 2 is not: a tab expected after"):
        read_table(path, text=["f1"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="does not exist"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match=r"must end in \.csv, \.tsv"):
        read_table(put(tmp_path, "id,f1\n", "t.xlsx"))
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(TableError, match="is a directory"):
        read_table(tmp_path / "d.csv")

    latin = tmp_path / "latin.csv"
    latin.write_bytes("id,f1\ns\xe9,1\n".encode("latin-1"))
    with pytest.raises(TableError, match="must be text in UTF-8, and holds the byte 0xe9"):
        read_table(latin)
    excel = tmp_path / "excel.tsv"
    excel.write_bytes("id\tf1\ns\t1\n".encode("utf-16"))
    with pytest.raises(TableError, match="must be text in UTF-8"):
        read_table(excel)

    with pytest.raises(TableError, match="must be a whole gzip file"):
        read_table(put(tmp_path, "id,f1\ns1,1\n", "plain.csv.gz"))
    whole = gzip.compress(b"id,f1\n" + b"".join(b"s%d,%d\n" % (i, i * i) for i in range(999)))
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TableError, match="must be a whole gzip file"):
        read_table(tmp_path / "cut.csv.gz")
    (tmp_path / "unmarked.csv").write_bytes(whole)
    with pytest.raises(TableError, match=r"gzipped file's name must end in \.gz"):
        read_table(tmp_path / "unmarked.csv")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything")
def test_permissions(tmp_path: Path) -> None:
    path = put(tmp_path, "id,f1\ns1,1\n")
    path.chmod(0)
    with pytest.raises(TableError, match="cannot be read: Permission denied"):
        read_table(path)
    with pytest.raises(TableError, match="may not be written"):
        check_output(path)


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [True, False])
def test_a_failure_leaves_the_old_file_and_no_other(
    tmp_path: Path, name: str, failure: type[BaseException], existed: bool
) -> None:
    path = tmp_path / name
    if existed:
        path.write_bytes(b"old")

    def write_and_fail() -> None:
        with atomic_write(path) as out:
            out.write("half" * 100_000)
            assert len(names(tmp_path)) == 1 + existed
            raise failure

    with pytest.raises(failure):
        write_and_fail()
    assert names(tmp_path) == ([name] if existed else [])
    if existed:
        assert path.read_bytes() == b"old"


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TableError, match=r"'.*out\.csv' cannot be written: No space left on device"):
        write_table(small(), tmp_path / "out.csv")
    assert names(tmp_path) == []


def test_a_bad_row_while_writing_leaves_nothing(tmp_path: Path) -> None:
    broken = Table("id", ["a", "b"], ["f1"], np.ones((1, 1)), {})
    with pytest.raises(IndexError):
        write_table(broken, tmp_path / "out.csv")
    assert names(tmp_path) == []


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(TableError, match="is a directory"):
        check_output(tmp_path / "d.csv")
    with pytest.raises(TableError, match="directory must exist"):
        check_output(tmp_path / "none" / "t.csv")
    with pytest.raises(TableError, match="must end in"):
        check_output(tmp_path / "t.txt")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(TableError, match="must be a plain file"):
        check_output(tmp_path / "pipe.csv")


def test_a_replaced_file_keeps_its_mode_and_a_link_its_target(tmp_path: Path) -> None:
    path = put(tmp_path, "old", "real.csv")
    path.chmod(0o640)
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    write_table(small(), link)
    assert link.is_symlink()
    assert path.read_text().startswith("sample,")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    usual = put(tmp_path, "", "usual.csv")
    write_table(small(), tmp_path / "new.csv")
    assert (tmp_path / "new.csv").stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_progress_grows_to_the_end(tmp_path: Path, name: str) -> None:
    rows = 1000
    reports: list[float] = []
    table = Table("id", [f"s{i}" for i in range(rows)], ["a", "b"], np.random.default_rng(0).normal(size=(rows, 2)), {})
    write_table(table, tmp_path / name, progress=reports.append)
    assert reports == sorted(reports)
    assert 0.9 < reports[-1] <= 1
    reports.clear()
    read_table(tmp_path / name, progress=reports.append)
    assert reports == sorted(reports)
    assert 0.9 < reports[-1] <= 1


# ------------------------------------------------------------------- parquet and parts


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=4)


@given(
    rows=st.lists(
        st.tuples(CELLS.filter(str.strip), CELLS, st.floats(allow_infinity=False, width=32)),
        min_size=1,
        max_size=8,
        unique_by=lambda row: row[0],
    ),
    cut=st.integers(0, 8),
    single=st.booleans(),
)
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_any_table_comes_back_written_in_parts(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    rows: list[tuple[str, str, float]],
    cut: int,
    single: bool,
) -> None:
    pytest.importorskip("pyarrow")
    ids, text, values = map(list, zip(*rows, strict=True))
    numbers = np.array(values, dtype=np.float32 if single else np.float64)[:, None]
    table = Table("", ids, ["f", "note"], numbers, {"note": text})
    path = tmp_path_factory.mktemp("any") / name
    with open_table(path) as write:
        for part in (table.rows(0, cut), table.rows(cut, len(ids))):
            if part.ids:
                write(part, None)
    again = read_table(path, text=["note"])
    assert (again.id_name, again.ids, again.columns, again.text) == ("", ids, table.columns, table.text)
    np.testing.assert_array_equal(again.numbers.astype(numbers.dtype), numbers)  # text has float32's shortest digits
    assert again.numbers.dtype == (np.float32 if single and name == "t.parquet" else np.float64)
    labels = read_text(path, ["note"])
    assert (labels.ids, labels.text, labels.numbers.shape) == (ids, table.text, (len(ids), 0))


def test_parquet_keeps_the_types_of_what_it_carries(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {
            "kind": pd.Categorical(["a", None, "b"]),
            "ok": [True, False, True],
            "day": pd.to_datetime(["2024-01-01", None, "2024-01-03"]),
            "age": [40.5, np.nan, 3.0],
            "count": pd.array([1, None, 3], dtype="Int64"),
            "f1": [0.5, np.nan, 2.0],
        },
        index=pd.Index([10, 20, 30], name="id"),
    )
    frame.to_parquet(tmp_path / "in.parquet")
    table = read_table(tmp_path / "in.parquet", text=["kind", "ok", "day", "age"])
    assert table.ids == ["10", "20", "30"]
    assert table.text == {
        "kind": ["a", "", "b"],
        "ok": ["True", "False", "True"],
        "day": ["2024-01-01", "", "2024-01-03"],
        "age": ["40.5", "", "3.0"],
    }
    np.testing.assert_array_equal(table.numbers, [[1, 0.5], [np.nan, np.nan], [3, 2]])
    write_table(table, tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), frame.astype({"count": float}))
