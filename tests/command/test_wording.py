"""The words of the command: phrases of the Python interface are exchanged, labels and numbers stay."""

import re

from batchfix.command.wording import PHRASES, all_in_words, document_in_words
from batchfix.diagnostics import held_out, measurements, predictability, sections
from batchfix.diagnostics.report.document import Document, Section, grid
from batchfix.diagnostics.report.words import ADVICE

PYTHON = re.compile(r"\b(corrector|after|keep|batch|keep_y|keep_at_transform)=|feature_effects|placebo_test|\bX\b")


def test_constant_sentences_have_no_python_left() -> None:
    said = [value for module in (sections, measurements, held_out, predictability) for value in vars(module).values()]
    said += [words for advice in ADVICE.values() for each in advice if each is not None for words in each]
    sentences = [each for each in said if isinstance(each, str) and " " in each and not each.startswith(('"', "\n"))]
    shown = [all_in_words(each) for each in sentences if "\n" not in each]
    assert not [each for each in shown if PYTHON.search(each)]
    assert any(PYTHON.search(each) for each in sentences)


def test_a_document_is_exchanged_as_a_whole() -> None:
    table = grid("c", ("name",), [("X",)], "Pass keep=.")
    section = Section("key", "title", reason="Pass corrector=.", grids=(table,))
    document = Document("X", "fine", "h", ("Pass keep=.",), {"features": "1"}, table, (section,))
    found = document_in_words(document)
    assert (found.title, found.summary) == ("X", ("Give --keep.",))
    assert found.sections[0].reason == "Give --method."
    assert found.sections[0].grids[0].note == "Give --keep."
    assert found.numbers.rows == (("X",),)
    assert document.summary == ("Pass keep=.",)


def test_no_phrase_is_exchanged_twice() -> None:
    for words in PHRASES.values():
        plain = words.replace(r"\1", "c")
        assert all_in_words(plain) == plain
