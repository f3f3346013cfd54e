"""Names in messages."""

from batchfix.core.naming import nearest, some


def test_some():
    assert some(["a"]) == "'a'"
    assert some(str(i) for i in range(7)) == "'0', '1', '2', '3', '4' and 2 more"


def test_nearest():
    assert nearest("combta", ["combat", "linear"]) == " (did you mean 'combat'?)"
    assert nearest("AGE", ["age", "sex"]) == " (did you mean 'age'?)"
    assert nearest("zzz", ["age", "sex"]) == ""
    assert nearest(7, ["7a", 70]) == " (did you mean '7a'?)"
    assert nearest("x", []) == ""
