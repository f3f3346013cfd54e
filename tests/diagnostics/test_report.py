"""The report: one page that stands alone, says what was found, and is not fooled by what labels hold."""

import base64
import dataclasses
import io
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from batchfix import ComBat, CompositionalCorrector
from batchfix.datasets import make_lab, make_microbes
from batchfix.diagnostics.design_words import Finding
from batchfix.diagnostics.evaluation import NUMBERS, evaluate
from batchfix.diagnostics.report import Report
from batchfix.diagnostics.report.document import _is_number, grid
from batchfix.diagnostics.report.files import ReportError
from batchfix.diagnostics.report.findings import Findings
from batchfix.diagnostics.report.lacking import lacking
from batchfix.diagnostics.report.numbers import number_rows, side_by_side
from batchfix.diagnostics.report.sections import overall, verdicts
from batchfix.diagnostics.report.words import ADVICE, DESIGNED_SO, HEADLINES, IN_SAMPLE, TITLES
from batchfix.diagnostics.sections import Missing
from batchfix.exceptions import BatchfixError

EVIL = "<script>alert('x')</script>"
VOID = {"meta", "img", "source", "br", "link"}


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and whether every one is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def lab():
    """60 samples whose batch, group, feature and title hold what HTML and Markdown would read as signs."""
    made = make_lab(60, 12, 3, random_state=0)
    names = [f"{EVIL}|{k}" if k == 0 else f"g_{k}" for k in range(12)]
    data = made.data.set_axis(names, axis=1)
    batch = made.batch.astype(str).replace({"b1": EVIL})
    group = made.group.astype(str).rename("group|<b>")
    return data, batch, group.to_frame()


@pytest.fixture(scope="module")
def report(lab):
    data, batch, keep = lab
    return Report(data, corrector=ComBat(), batch=batch, keep=keep, fast=True, placebo=True, title=f"A & {EVIL}")


@pytest.fixture(scope="module")
def page(report):
    return report.to_html()


def test_the_page_stands_alone(page):
    found = Page(page)
    tags = {name for name, _ in found.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form"}
    for tag, attribute in (("img", "src"), ("source", "srcset")):
        assert all(each[attribute].startswith("data:image/png;base64,") for each in found.all(tag))
    assert not re.search(r"(https?:)?//\w|url\(|@import|@font-face", re.sub(r'"data:[^"]*"', "", page))
    assert not any(name.startswith("on") for _, attrs in found.elements for name in attrs)
    policy = next(each["content"] for each in found.all("meta") if each.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert len(page) < 1_000_000


def test_the_page_is_read_by_all(page):
    found = Page(page)
    assert found.all("html") == [{"lang": "en"}]
    assert [len(found.all(tag)) for tag in ("h1", "main", "nav", "title")] == [1, 1, 1, 1]
    levels = [int(name[1]) for name, _ in found.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    names = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(names) == len(set(names))
    assert {each["href"][1:] for each in found.all("a")} <= set(names)
    assert {each["aria-labelledby"] for _, each in found.elements if "aria-labelledby" in each} <= set(names)
    pictures = found.all("img")
    assert len(pictures) >= 7
    assert all(len(each["alt"]) > 30 and int(each["width"]) <= 620 for each in pictures)
    assert len(found.all("source")) == len(pictures)
    # a table scrolls in a box of its own, which a keyboard reaches
    places = [k for k, (name, _) in enumerate(found.elements) if name == "table"]
    assert all(found.elements[k - 1][1].get("tabindex") == "0" for k in places)
    assert len(places) >= 5


def test_labels_are_text(page, report):
    assert "<script" not in page
    assert EVIL in Page(page).text
    assert "&lt;script&gt;alert(" in page
    assert "<script" not in report.to_markdown().replace(r"\<script", "")
    assert report.document.title == f"A & {EVIL}"


def test_the_summary_comes_first(page, report):
    text = Page(page).text
    document = report.document
    where = [text.index(" ".join(each.split())) for each in (document.headline, *document.summary, "Eight numbers")]
    assert where == sorted(where)
    titles = [each.title for each in document.sections]
    places = [text.rindex(title) for title in titles]
    assert places == sorted(places)
    assert places[0] > where[-1]
    assert text.index("They do not make a test on the corrected table right") > places[-1]
    assert [each.key for each in document.sections][:9] == [
        "forecast", "samples", "batch_variance", "biology", "dispersion", "predictability", "leave_one_batch_out",
        "mixing", "features",
    ]  # fmt: skip


def test_each_finding_has_evidence_meaning_and_a_next_step(report):
    for section in report.document.sections:
        assert section.title == TITLES[section.key]
        if section.reason or section.key in ("samples", "notes"):
            continue
        assert section.says
        assert section.meaning
        assert section.next_step
    assert set(ADVICE) == {*NUMBERS, "placebo", "predicted_from_biology"}


def test_pictures_are_light_and_dark(page):
    found = Page(page)
    for name, attribute, lightest in (("img", "src", True), ("source", "srcset", False)):
        for each in found.all(name):
            data = base64.b64decode(each[attribute].split(",")[1])
            with Pillow.open(io.BytesIO(data)) as image:
                corner = image.convert("RGB").getpixel((0, 0))
            assert (min(corner) > 250) if lightest else (max(corner) < 60)
    assert {each["media"] for each in found.all("source")} == {"screen and (prefers-color-scheme: dark)"}


def test_json_holds_the_numbers(report):
    said = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert said["evaluation"] == json.loads(json.dumps(report.evaluation.to_dict(), allow_nan=False))
    assert said["verdict"] == report.verdict == report.document.verdict
    assert said["placebo"]["auc"] == pytest.approx(report.placebo.auc)
    assert [each["key"] for each in said["sections"]] == [each.key for each in report.document.sections]
    assert all(picture["description"] for each in said["sections"] for picture in each.get("pictures", []))


def test_markdown_has_whole_tables(report):
    lines = report.to_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    for k, line in enumerate(lines):
        if line.startswith("| ---"):
            cells = [len(re.findall(r"(?<!\\)\|", lines[k + step])) for step in (-1, 0, 1)]
            assert len(set(cells)) == 1
    assert len(rows) > 40
    assert sum(line.startswith("## ") for line in lines) == len(report.document.sections) + 1


def test_a_notebook_shows_it_in_a_frame_of_its_own(report, page, monkeypatch):
    monkeypatch.setattr(Report, "to_html", lambda _: page)
    shown = report._repr_html_()
    (frame,) = Page(shown).all("iframe")
    assert frame["srcdoc"] == page
    assert frame["sandbox"] == ""
    assert repr(report).startswith("Report(verdict=")


def test_a_file_is_whole_or_not_there(report, page, tmp_path, monkeypatch):
    path = tmp_path / "out.html"
    path.write_text("old")
    monkeypatch.setattr(Report, "to_html", lambda _: page)
    report.write_html(path)
    assert path.read_text(encoding="utf-8") == page

    def fail(*_):
        raise OSError(28, "No space left on device")

    path.write_text("old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ReportError, match="No space left on device"):
        report.write_html(path)
    assert [each.name for each in tmp_path.iterdir()] == ["out.html"]
    assert path.read_text() == "old"
    with pytest.raises(ReportError, match="is a directory"):
        report.write_html(tmp_path)
    with pytest.raises(ReportError, match="does not"):
        report.write_html(tmp_path / "none" / "out.html")


def test_what_cannot_be_had_says_why_and_the_rest_is_there(lab):
    data, batch, _ = lab
    holes = data.copy()
    holes.iloc[3, 2] = np.nan
    document = Report(holes, batch=batch, fast=True).document
    reasons = {each.key: each.reason for each in document.sections}
    assert "1 missing" in reasons["batch_variance"]
    assert "keep=" in reasons["biology"]
    assert not reasons["features"]  # each feature as far as it was observed
    assert document.section("features").pictures
    assert any("could not be drawn" in each for each in document.section("samples").evidence)
    assert document.verdict == "warn"
    assert "cannot be had" in document.numbers.note


def test_a_corrector_that_refuses(lab):
    data, batch, _ = lab
    one = pd.DataFrame({"site": np.where(batch == "b2", "x", "y")}, index=data.index)
    document = Report(data, corrector=ComBat(), batch=batch, keep=one, fast=True).document
    assert document.verdict == "stop"
    assert document.headline == "The table cannot be corrected so."
    assert "cannot be told apart" in document.summary[0]
    assert document.section("forecast").verdict == "stop"
    assert document.section("batch_variance").says


def test_a_table_as_measured(lab):
    data, batch, keep = lab
    document = Report(data, batch=batch, keep=keep, fast=True).document
    assert document.headline == "There is a batch effect."
    assert "after" not in document.numbers.columns
    assert document.section("batch_variance").verdict == "warn"
    assert document.section("batch_variance").next_step.startswith("Correct the table")
    assert document.facts["corrected"] == "no"
    assert not any("neither a corrected table" in " ".join(each.evidence) for each in document.sections)


def test_an_evaluation_that_is_there_already(lab, report):
    data, batch, keep = lab
    found = Report.from_evaluation(report.evaluation)
    assert found.verdict == overall(report.evaluation, verdicts(report.evaluation))
    assert "give it the tables" in found.document.section("samples").reason
    drawn = Report.from_evaluation(report.evaluation, data, batch=batch, keep=keep)
    assert len(drawn.document.section("samples").pictures) == 3


def test_log_ratios_are_compared_with_log_ratios():
    made = make_microbes(60, 20, 3, random_state=0)
    report = Report(made.counts, corrector=CompositionalCorrector(), batch=made.batch, keep=made.group, fast=True)
    assert report.findings.tables.before.shape == report.findings.tables.after.shape
    assert len(report.document.section("samples").pictures) == 3


def test_labels_in_the_table_itself(lab):
    data, batch, keep = lab
    table = data.assign(run=batch, group=keep.iloc[:, 0])
    report = Report(table, corrector=ComBat(batch_key="run", keep_keys=["group"]), fast=True, placebo=True)
    assert report.evaluation.n_features == 12
    assert report.placebo.corrector == "ComBat"
    assert report.document.section("samples").pictures


def test_many_samples_stay_small(report):
    """30,000 points are drawn as an image: the page has under 2 MB, whatever their number."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 8))
    batch, group = rng.integers(0, 12, 30_000).astype(str), rng.choice(["case", "control"], 30_000)
    large = Report.from_evaluation(report.evaluation, X, X + 0.1, batch=batch, keep=pd.DataFrame({"group": group}))
    assert len(large.document.section("samples").pictures) == 3
    assert len(large.to_html()) < 2_000_000


@pytest.mark.parametrize(
    ("verdict", "forecast", "wanted"),
    [
        ("fine", "fine", "fine"),
        ("fine", "stop", "stop"),
        ("under-corrected", "fine", "warn"),
        ("undecided", "warn", "warn"),
        ("over-fitted", "fine", "warn"),
        ("over-fitted: Biology is lost: group", "fine", "stop"),
        ("over-fitted: group in a batch left out. It is upside down.", "fine", "stop"),
        ("under-corrected and over-fitted", "warn", "warn"),
        ("not corrected", "fine", "warn"),
    ],
)
def test_the_gravest_verdict_counts(report, verdict, forecast, wanted):
    verdict, _, reason = verdict.partition(": ")
    found = dataclasses.replace(report.evaluation, verdict=verdict, over=(reason,))
    assert overall(found, {"forecast": forecast}) == wanted
    assert overall(found, {"forecast": forecast, "placebo": "stop"}) == "stop"


def test_the_summary_is_in_the_order_of_weight(report):
    """Biology lost before batches left, and a design that stops before both; of the rest the order stays."""
    design = report.evaluation.forecast
    stop = dataclasses.replace(design, findings=(Finding("stop", "Designed so."),), verdict="stop")
    found = dataclasses.replace(
        report.evaluation,
        verdict="under-corrected and over-fitted",
        under=("Location: left.", "Scale: left."),
        over=("Something else.", "Biology is lost: group."),
        mind=("A note.", "Designed so."),
        forecast=stop,
    )
    summary = Findings(found).summary
    assert summary[:2] == ("Biology is lost: group.", "Designed so.")
    assert summary[2:] == ("Location: left.", "Scale: left.", "Something else.", "A note.")
    measured = dataclasses.replace(found, corrector="", corrected=False, verdict="under-corrected", over=())
    assert Findings(measured).summary[0] == "Designed so."
    assert Findings(measured).headline == DESIGNED_SO["under-corrected"]


def test_names_of_many_batches_are_left_to_the_section():
    batch = np.repeat([f"a_long_name_of_a_batch_{k:02d}" for k in range(40)], 2)
    level = np.repeat([f"level {k // 10}" for k in range(40)], 2)
    X = np.random.default_rng(0).normal(size=(80, 3))
    document = Report(X, batch=batch, keep={"many": level}, fast=True).document
    assert document.section("forecast").says.count("a_long_name") > 8
    assert document.summary[0].startswith("Batch and 'many' cannot be told apart: batches fall into 4 blocks")
    assert "a_long_name" not in document.summary[0]


def test_the_badge_stands_on_the_line_that_decides(report, lab):
    data, batch, keep = lab
    of_batch = "Batch, share of variance: adjusted R2"

    def badges(document):
        return {row[0]: row[1] for row in document.numbers.rows if row[0].startswith(of_batch)}

    said = badges(report.document)
    assert said[of_batch] == ""
    assert said[f"{of_batch} held out"] in ("fine", "warn")
    assert badges(Report(data, batch=batch, keep=keep, fast=True).document)[of_batch] == "warn"
    rows = {row[0]: row[1] for row in report.document.numbers.rows}
    assert rows["Batch, feature by feature: median eta2"] == ""
    assert rows["Batch, feature by feature: features found"] != ""


def test_a_table_that_was_corrected_elsewhere_is_no_success(lab):
    data, batch, keep = lab
    after = ComBat().fit_transform(data, batch=batch, keep=keep)
    document = Report(data, after, batch=batch, keep=keep, fast=True).document
    assert document.headline != HEADLINES["fine"]
    assert document.verdict != "fine" or document.headline == IN_SAMPLE


def test_a_table_that_cannot_be_evaluated_has_a_page(lab):
    report = Report.without_numbers(lab[0], "All samples are of one batch.", title="One")
    assert {each.reason for each in report.document.sections if each.key not in ("samples", "notes")} == {
        "All samples are of one batch."
    }
    assert (report.verdict, report.document.summary) == ("warn", ("All samples are of one batch.",))
    assert Page(report.to_html()).text.count("All samples are of one batch.") >= 8
    json.dumps(report.to_dict(), allow_nan=False)


def test_several_methods_side_by_side(lab, report):
    data, _, _ = lab
    refused = lacking(data, "It is no composition.", corrector="CompositionalCorrector")
    table = side_by_side({"clr": (refused, {}), "combat": (report.evaluation, report.findings.verdicts)})
    assert table.columns == ("number", "as measured", "clr", "combat", "right would be")
    want = {row.title: row for row in number_rows(report.evaluation, {})}
    found = {row[0]: row for row in table.rows}
    assert list(want) == list(found)
    for title, row in want.items():
        assert found[title][1:] == (row.before, found[title][2], row.after, row.right)
        assert found[title][2] in ("-", "")


def test_a_narrow_page_cuts_nothing(page):
    """Rows become paragraphs whose numbers have the names of their columns; wide pictures say that they go on."""
    found = Page(page)
    cells = found.all("td")
    assert all("data-name" in each or each["class"] == "judged" for each in cells)
    assert {each["role"] for each in cells} == {"cell"}
    assert 'class="paper broad"' in page
    style = page[page.index("<style>") : page.index("</style>")]
    narrow = style[style.index("@media screen and (max-width") : style.index("@media print")]
    assert "attr(data-name)" in narrow
    assert ".broad::after" in narrow
    assert [each for each in found.all("meta") if each.get("name") == "generator"] == [
        {"name": "generator", "content": "batchfix"}
    ]


def test_a_reason_of_no_section_marks_the_first_number(report):
    settled = dataclasses.replace(report.evaluation.batch_variance, held_out=Missing("Not looked at."))
    fine = dataclasses.replace(report.evaluation, batch_variance=settled, under=(), over=())
    assert verdicts(fine)["batch_variance"] == "fine"
    found = dataclasses.replace(fine, over=("Something else.",))
    assert verdicts(found)["batch_variance"] == "warn"


def test_areas_above_chance_are_not_judged_where_biology_tells_of_batch():
    made = make_lab(120, 10, 3, effect_size=4.0, effect_share=1.0, confounding=0.6, random_state=0)
    report = Report(made.data, corrector=ComBat(), batch=made.batch, keep=made.group, fast=True)
    after = report.evaluation.predictability.after
    assert report.evaluation.rho2 > 0.05
    assert after.linear > after.by_chance[1]
    section = report.document.section("predictability")
    assert section.verdict == ""
    assert "tells of batch too" in section.meaning


def test_a_placebo_needs_a_corrector_and_biology(lab):
    data, batch, keep = lab
    found = evaluate(data, batch=batch, keep=keep, fast=True)
    assert Report.from_evaluation(found).placebo is None
    tried = Report(data, batch=batch, keep=keep, fast=True, placebo=True)
    assert "Pass corrector=" in tried.document.section("placebo").reason


def test_wrong_input_is_a_sentence(lab):
    data, batch, keep = lab
    with pytest.raises(BatchfixError, match="two levels"):
        Report(data, batch=["one"] * len(data), keep=keep)
    with pytest.raises(BatchfixError, match="batch"):
        Report(data, batch=batch.to_numpy()[:-1], keep=keep)


def test_grids():
    assert grid("", ("a", "b"), [("x", 1.5), ("y", "fine")]).numeric == (False, True)
    assert grid("", ("a", "b"), [("x", ""), ("y", "")]).numeric == (False, False)
    assert [_is_number(each) for each in ("<0.0001", "12 %", "1,234", "∞?")] == [True, True, True, False]


WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("matplotlib", "jinja2"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
from batchfix.datasets import make_lab
from batchfix.diagnostics.report import Report
from batchfix.diagnostics.report.findings import Findings
lab = make_lab(40, 6, random_state=0)
print(Findings.of(lab.data, batch=lab.batch, fast=True).verdict)
try:
    Report(lab.data, batch=lab.batch)
except ModuleNotFoundError as error:
    print(error)
"""


def test_without_the_extra():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    verdict, refusal = done.stdout.splitlines()
    assert verdict in ("fine", "warn")
    assert refusal.endswith("pip install 'batchfix[report]'")
