"""Wording: what the library says of its Python interface, in the words of the command.

Sentences flow in, and flow out with options where they had arguments. Whole phrases are exchanged and never a word
alone, which may be a label or a feature of the user's.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

PHRASES = {
    r"Pass after= or corrector=\.": "Give --after or --method.",
    r"Pass corrector=\.": "Give --method.",
    r"Pass the uncorrected table and corrector=, or corrected=False to have the number all the same\.": (
        "Give the uncorrected table, and --method."
    ),
    r"Pass keep=\.": "Give --keep.",
    r"Pass batch=\.": "Give --batch.",
    r"\bgot X with\b": "got a table with",
    r"\b([Cc])heck that X is\b": r"\1heck that the table is",
    r"; feature_effects takes each feature as far as it was observed": (
        "; feature by feature, each is taken as far as it was observed"
    ),
    r"\btry placebo_test\b": "try batchfix diagnose --placebo",
    r"\bplacebo_test tells\b": "batchfix diagnose --placebo tells",
    r"\brun the placebo test\b": "run batchfix diagnose --placebo",
    r"\bcorrected X has\b": "the corrected table has",
    r"\bComBat and BatchCorrector scale too\b": "--method combat and --method location-scale scale too",
    r" \(keep_y=True, keep_at_transform=False\)": "",
    r"\bGive the corrector, to see\b": "Give --method, to see",
    r"\bonly a corrector can be tried\b": "only a method can be tried",
    r"Fit \(or partial_fit\) with rows of that level": "Make the model anew with samples of that level",
    r"Call adapt\(\) with its samples, or set handle_unknown='pooled', 'nan' or 'adapt'\.": (
        "Say --unknown adapt, pooled or nan."
    ),
    r"set handle_unknown='pooled' or 'nan'\.": "say --unknown pooled or nan.",
    r"; give it the tables for pictures": "",
    r"\bdesign_forecast\b": "batchfix check",
}
_PATTERNS = [(re.compile(pattern), words) for pattern, words in PHRASES.items()]


def in_words(text: str) -> str:
    """A sentence in the command's words.

    Examples
    --------
    >>> in_words("Only a corrector can. Pass corrector=."), in_words("batch moves X and corrector")
    ('Only a corrector can. Give --method.', 'batch moves X and corrector')
    """
    for pattern, words in _PATTERNS:
        text = pattern.sub(words, text)
    return text


def all_in_words(value: Any) -> Any:
    """The same for all sentences in lists and dicts, as they go to JSON; keys stay.

    Examples
    --------
    >>> all_in_words({"Pass keep=.": ["Pass keep=.", 1, None]})
    {'Pass keep=.': ['Give --keep.', 1, None]}
    """
    if isinstance(value, str):
        return in_words(value)
    if isinstance(value, dict):
        return {key: all_in_words(each) for key, each in value.items()}
    return [all_in_words(each) for each in value] if isinstance(value, list) else value


def document_in_words(value: Any) -> Any:
    """The same for all sentences of a report's document: dataclasses and tuples of them; displays stay."""
    if isinstance(value, str):
        return in_words(value)
    if type(value) is tuple:
        return tuple(document_in_words(each) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {field.name: document_in_words(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **held)
    return value
