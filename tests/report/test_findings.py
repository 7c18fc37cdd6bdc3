"""What a study prints: tables that a terminal of 80 columns shows without cutting a number."""

import contextlib
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkage.report.findings import Findings, show

NAMES = st.lists(st.sampled_from(["loss", "mean of the squared weights", "λ", "rows"]), min_size=1, max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(NAMES, st.lists(NUMBERS, min_size=12, max_size=12), st.text("ab ", min_size=1, max_size=200))
@settings(deadline=None)
def test_every_number_of_a_wide_table_is_shown_whole(names: list[str], numbers: list[float], words: str) -> None:
    frame = pd.DataFrame({"way": ["first", "second"]})
    for place, (name, number) in enumerate(zip(names, numbers, strict=False)):
        frame[f"{name} {place}"] = [number, 1.0]
    frame["why"] = [words, ""]
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setenv("COLUMNS", "80")
        show("a study", Findings(["Yes."], tables={"a_table": frame}))
    shown = output.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    for place in range(len(names)):
        assert f"{numbers[place]:.4g}" in shown.split() and f"{names[place]} {place}" in shown
