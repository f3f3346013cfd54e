"""Design words: what labels tell of a correction, in sentences and as a page for the terminal.

Statistics and the table of contrasts flow in, findings flow out; a forecast flows in, lines flow out. What correctors
refuse or warn of in fit is said here in their own sentences (core/estimability.py).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from ..core.design import repr_label
from ..core.estimability import check_estimable, nearly_redundant
from ..core.naming import some
from ..core.statistics import BatchStatistics
from ..exceptions import ConfoundedDesignError, TooFewSamplesError
from .design_labels import DesignLabels, python_values

if TYPE_CHECKING:
    from .design import DesignForecast

Verdict = Literal["fine", "warn", "stop"]
ORDER: tuple[Verdict, ...] = ("fine", "warn", "stop")

WIDTH, SHOWN_ROWS, SHOWN_COLUMNS = 100, 12, 8
"""Characters in a line of the page; rows of a table on it, and columns."""

LEGEND = (
    "shared: R2 of the contrast on {removed}, given what else is kept (rho2). survives: share of its effect that a "
    "correction leaves if it is not kept. noise: standard error if it is kept, as a multiple of that without batches. "
    "false positives: of a t-test at the {alpha} level on the table corrected with it kept; exact for location-only "
    "corrections of complete, normal data{several}; an approximation for ComBat, too low where batches have few "
    "samples. worth: samples of a balanced experiment without batches that is as precise."
)


@dataclass(frozen=True)
class Finding:
    """A few sentences on a design, and how grave they are."""

    verdict: Verdict
    message: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.message}"


def gravest(verdicts: Iterator[Verdict] | pd.Series) -> Verdict:
    """The one that counts.

    Examples
    --------
    >>> gravest(iter(["fine", "stop", "warn"]))
    'stop'
    """
    return max(verdicts, key=ORDER.index)


def findings(
    labels: DesignLabels, statistics: BatchStatistics, contrasts: pd.DataFrame, alpha: float
) -> tuple[Finding, ...]:
    """All that is to be said, the gravest first."""
    found = [*refused(labels, statistics), *nearly_collinear(statistics), *singletons(statistics)]
    removed = removed_of(statistics)
    for _, rows in contrasts.groupby("column", sort=False):
        unknown = rows["rho2"].isna() & ~rows["estimable"]  # told from nothing that is kept: said of the column
        if unknown.all() or ((rows["estimable"] | unknown).all() and not rows["false_positives"].isna().all()):
            found.append(cost(rows, removed, alpha))
    return tuple(sorted(found, key=lambda each: -ORDER.index(each.verdict)))


def removed_of(statistics: BatchStatistics) -> str:
    """What goes: batch, and nuisance if there is any."""
    return "batch and nuisance" if any(c.role == "nuisance" for c in statistics.columns) else "batch"


def refused(labels: DesignLabels, statistics: BatchStatistics) -> list[Finding]:
    """What correctors refuse, in their words; of each column that is confounded by itself."""
    try:
        check_estimable(statistics)
    except (ConfoundedDesignError, TooFewSamplesError) as error:
        alone = []
        for column in statistics.columns:
            if column.role == "keep":
                try:
                    check_estimable(labels.statistics(only=column.name))
                except ConfoundedDesignError as own:
                    alone.append(Finding("stop", str(own)))
                except TooFewSamplesError:  # which is said of all columns together
                    pass
        return alone or [Finding("stop", str(error))]
    return []


def nearly_collinear(statistics: BatchStatistics) -> list[Finding]:
    """What correctors warn of: columns that others nearly give."""
    close = nearly_redundant(statistics)
    if not close:
        return []
    return [
        Finding(
            "warn",
            f"The columns {', '.join(close)} are nearly collinear: what tells them apart varies too little to be "
            "estimated and is left out of the model. Centre a number before taking its powers, or give fewer.",
        )
    ]


def singletons(statistics: BatchStatistics) -> list[Finding]:
    """Batches of one sample, which tell nothing."""
    lone = statistics.batches[statistics.moments.rows == 1]
    if not len(lone):
        return []
    one = len(lone) == 1
    subject = "1 batch" if one else f"{len(lone)} batches"
    return [
        Finding(
            "warn",
            f"{subject} of {len(statistics.batches)} {'holds' if one else 'hold'} one sample "
            f"({some(python_values(lone))}), which tells nothing of what is kept and has no spread. Leave such samples "
            "out, or join batches that were run alike; ComBat would otherwise correct no batch's spread.",
        )
    ]


def cost(rows: pd.DataFrame, removed: str, alpha: float) -> Finding:
    """Say of a kept column (the rows of its contrasts) what the worst of them costs."""
    verdict = gravest(rows["verdict"])
    graver = rows[rows["verdict"] == verdict]
    worst = graver.loc[graver["rho2"].fillna(2.0).idxmax()]
    what = (
        f"The slope of {worst['column']!r}"
        if worst["contrast"] == "slope"
        else f"{worst['contrast']} of {worst['column']!r}"
    )
    if len(rows) > 1:
        what += f", the worst of {len(rows)} contrasts,"
    if np.isnan(worst["rho2"]):
        return Finding(
            "warn",
            f"{what} cannot be told from the other columns that are kept, with batches or without: they follow from "
            "each other. Keep one of them only.",
        )
    shares = f"{what} shares {percent(worst['rho2'])} with {removed}"
    if removed != "batch":
        shares += f" ({percent(worst['rho2_batch'])} with batch alone)"
    if verdict == "stop":
        return Finding(
            "stop",
            f"{shares} and is worth {worst['effective_n']:.2g} samples of an experiment without batches: it hangs on "
            "less than one sample, and no correction can fix that. Run samples that differ in it in one batch, or do "
            "not compare them.",
        )
    left, false = percent(worst["surviving"]), percent(worst["false_positives"])
    if verdict == "fine":
        return Finding(
            "fine",
            f"{shares}: {left} of its effect would survive a correction that does not keep it, and a t-test on the "
            f"table corrected with it kept finds {false} false positives at the {percent(alpha)} level.",
        )
    return Finding(
        "warn",
        f"{shares}. A correction that does not keep it leaves {left} of its effect; one that keeps it makes its "
        f"estimate {worst['noise']:.3g} times as noisy, and a t-test on the corrected table then finds {false} false "
        f"positives at the {percent(alpha)} level. Keep it, and test it on the uncorrected table with batch in the "
        "model.",
    )


def percent(share: float) -> str:
    """A share as it is read.

    Examples
    --------
    >>> percent(0.05), percent(0.1179), percent(1 / 3), percent(float("nan"))
    ('5 %', '11.8 %', '33.3 %', '-')
    """
    return "-" if np.isnan(share) else f"{100 * share:.3g} %"


# ---- the page


def page(forecast: DesignForecast) -> Iterator[str]:
    """Lines of what is printed: verdict, tables, contrasts, legend."""
    yield from _wrapped(_headline(forecast))
    for each in forecast.findings:
        yield ""
        yield from _wrapped(str(each))
    for name, table in forecast.tables.items():
        yield ""
        yield from _design_table(name, table)
    yield ""
    yield from _contrast_table(forecast)
    yield ""
    several = ", for the regression on all kept columns" if len(forecast.columns) > 1 else ""
    yield from _wrapped(LEGEND.format(removed=forecast.removed, alpha=percent(forecast.alpha), several=several), "")


def _headline(forecast: DesignForecast) -> str:
    sizes = forecast.batch_sizes
    shown = ", ".join(f"{batch!r} ({size})" for batch, size in list(sizes.items())[:SHOWN_COLUMNS])
    more = f" and {len(sizes) - SHOWN_COLUMNS} more" if len(sizes) > SHOWN_COLUMNS else ""
    kept = some(forecast.columns["column"], SHOWN_COLUMNS)
    return f"{forecast.n} samples in {len(sizes)} batches, {shown}{more}; to keep: {kept}"


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _design_table(name: str, table: pd.DataFrame) -> Iterator[str]:
    """Batches in rows; long or wide tables cut."""
    short = table.iloc[:SHOWN_ROWS, :SHOWN_COLUMNS].rename(index=repr_label)
    if table.columns.name is not None:
        short = short.rename(columns=repr_label)
    short = short.rename_axis(index=None, columns=name)
    yield from short.to_string(float_format="{:.4g}".format, na_rep="-").splitlines()
    rows, columns = (max(0, have - most) for have, most in zip(table.shape, (SHOWN_ROWS, SHOWN_COLUMNS), strict=True))
    if rows or columns:
        left = [f"{rows} more batches"] * bool(rows) + [f"{columns} more levels"] * bool(columns)
        yield f"... {' and '.join(left)}"


def _contrast_table(forecast: DesignForecast) -> Iterator[str]:
    """The contrasts that share most, worst first."""
    order = forecast.contrasts["rho2"].fillna(2.0).to_numpy()
    rows = forecast.contrasts.iloc[np.argsort(-order, kind="stable")[:SHOWN_ROWS]]
    text = pd.DataFrame(
        {
            "contrast": [f"{row.column}: {row.contrast}" for row in rows.itertuples()],
            "shared": [percent(v) for v in rows["rho2"]],
            "survives": [percent(v) for v in rows["surviving"]],
            "noise": ["-" if np.isnan(v) else f"{v:.2f}" for v in rows["noise"]],
            "false positives": [percent(v) for v in rows["false_positives"]],
            "worth": [f"{v:.1f}" for v in rows["effective_n"]],
            "verdict": rows["verdict"].to_numpy(),
        }
    )
    yield from text.to_string(index=False).splitlines()
    if len(forecast.contrasts) > len(rows):
        yield f"... {len(forecast.contrasts) - len(rows)} more contrasts, which share less"
