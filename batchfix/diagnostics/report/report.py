"""Report: whether there is a batch effect, whether it was removed, and what that cost, in one file.

Tables, labels and a corrector flow in, or an evaluation of them; an HTML file that stands alone flows out, or the same
as Markdown, as JSON, or in a notebook.
"""

from __future__ import annotations

import datetime as dt
import html as escaping
from functools import cached_property
from os import PathLike
from typing import Any, Self

from ..evaluation import Evaluation
from ..placebo import Placebo
from ..sections import Missing
from . import writers
from .document import Document
from .files import check_place, write_whole
from .findings import Findings, read_tables
from .lacking import lacking
from .pictures import Album
from .sections import sections
from .words import GUIDANCE

TITLE = "Batch effects"


class Report:
    """What an evaluation found, to be read by a person.

    Summary and verdict come first; then each finding with its number, its picture, its meaning in a sentence and the
    next step; then what the numbers cannot say. What could not be had says why, and the rest is there.

    Parameters
    ----------
    before : table (n, p)
        Uncorrected.
    after : table (n, q), optional
        Corrected, by whichever tool. By default what the corrector makes.
    corrector : transformer or function (X, batch, y) -> X, optional
        With it, what cannot be judged on the samples that were corrected is judged on others. See `evaluate`.
    batch : labels (n,)
    keep : table or columns, optional
        The biology: text, bool and category are factors, fractions are numbers.
    fast : bool
        Without forests: seconds.
    placebo : bool
        Whether to run `placebo_test` too; it needs a corrector and something to keep.
    title : str
    distance, random_state, progress : as in `evaluate`
    n_jobs : int, optional
        Threads of the forests; -1 for all cores.

    Attributes
    ----------
    findings : Findings
        What was found, without pictures.
    verdict : "fine", "warn" or "stop"
        The gravest of the findings. Too little correction, or too much, is a warning; biology that was lost or turned
        upside down, a corrector that fails, a design that cannot be corrected and a placebo that leaks are a stop.
    evaluation : Evaluation
    placebo : Placebo, or Missing with a reason, or None
    document : Document
        Everything that the report says.

    Raises
    ------
    BatchfixError
        As `evaluate`.
    ModuleNotFoundError
        matplotlib or jinja2 is not there: pip install 'batchfix[report]'.

    Examples
    --------
    >>> from batchfix import ComBat
    >>> from batchfix.datasets import make_lab
    >>> from batchfix.diagnostics.report import Report
    >>> lab = make_lab(90, 20, random_state=0)
    >>> report = Report(lab.data, corrector=ComBat(), batch=lab.batch, keep=lab.group, fast=True)
    >>> report.verdict in ("fine", "warn", "stop"), report.document.facts["corrected"]
    (True, 'ComBat')
    >>> [section.key for section in report.document.sections][:3]
    ['forecast', 'samples', 'batch_variance']
    """

    def __init__(
        self,
        before: Any,
        after: Any = None,
        *,
        corrector: Any = None,
        batch: Any = None,
        keep: Any = None,
        fast: bool = False,
        placebo: bool = False,
        title: str = TITLE,
        distance: str = "euclidean",
        random_state: Any = 0,
        n_jobs: int | None = -1,
        progress: bool = False,
    ) -> None:
        writers.require_report()
        self.title = str(title)
        self.findings = Findings.of(
            before,
            after,
            corrector=corrector,
            batch=batch,
            keep=keep,
            fast=fast,
            placebo=placebo,
            distance=distance,
            random_state=random_state,
            n_jobs=n_jobs,
            progress=progress,
        )

    @classmethod
    def from_evaluation(
        cls,
        evaluation: Evaluation,
        before: Any = None,
        after: Any = None,
        *,
        batch: Any = None,
        keep: Any = None,
        placebo: Placebo | None = None,
        title: str = TITLE,
    ) -> Self:
        """From an evaluation that is there already; with the tables, pictures of samples are drawn too."""
        writers.require_report()
        read = None if before is None else read_tables(None, before, after, batch, keep, [])[0]
        new = cls.__new__(cls)
        new.title, new.findings = str(title), Findings(evaluation, placebo, read)
        return new

    @classmethod
    def without_numbers(cls, before: Any, reason: str, *, title: str = TITLE) -> Self:
        """Of a table that cannot be evaluated: each section says why.

        Examples
        --------
        >>> report = Report.without_numbers([[1.0], [2.0]], "All samples are of one batch.")
        >>> report.verdict, report.document.summary
        ('warn', ('All samples are of one batch.',))
        """
        return cls.from_evaluation(lacking(before, reason), title=title)

    @property
    def verdict(self) -> str:
        """The gravest of all: "fine", "warn" or "stop"."""
        return self.findings.verdict

    @property
    def evaluation(self) -> Evaluation:
        """The eight numbers."""
        return self.findings.evaluation

    @property
    def placebo(self) -> Placebo | Missing | None:
        """The placebo test, or why there is none; None where it was not asked for."""
        return self.findings.placebo

    @cached_property
    def document(self) -> Document:
        """Everything that the report says."""
        found = self.findings
        album = Album(found.tables, found.evaluation)
        return Document(
            title=self.title,
            verdict=found.verdict,
            headline=found.headline,
            summary=found.summary,
            facts=found.facts,
            numbers=found.numbers,
            sections=sections(found.evaluation, album, found.verdicts, found.placebo),
            guidance=GUIDANCE,
            footer=_footer(),
        )

    def to_html(self) -> str:
        """The page."""
        return writers.html(self.document)

    def write_html(self, path: str | PathLike[str]) -> None:
        """Write the page to a file, which appears whole or not at all."""
        check_place(path)  # before the pictures
        write_whole(path, self.to_html().encode())

    def to_markdown(self) -> str:
        """All but the pictures, which are described."""
        return writers.markdown(self.document)

    def to_dict(self) -> dict[str, Any]:
        """Verdict, sections in words, and all numbers, ready for JSON: what has no value is None."""
        said = {"sections": [each.to_dict() for each in self.document.sections]}
        return {"title": self.title} | self.findings.to_dict() | said

    def _repr_html_(self) -> str:
        """The page in a frame of its own, so that its style stays out of the notebook's."""
        page = escaping.escape(self.to_html(), quote=True)
        return (
            f'<iframe title="{escaping.escape(self.title, quote=True)}" srcdoc="{page}" sandbox="" '
            'style="width:100%;height:48rem;border:1px solid #8888;border-radius:6px"></iframe>'
        )

    def __repr__(self) -> str:
        found = self.evaluation
        return f"Report(verdict={self.verdict!r}, n={found.n}, n_features={found.n_features})"

    def __str__(self) -> str:
        return self.to_markdown()


def _footer() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = f" {version('batchfix')}"
    except PackageNotFoundError:
        number = ""
    return f"Written by batchfix{number} on {dt.date.today():%d %B %Y}."  # noqa: DTZ011 - the reader's own day
