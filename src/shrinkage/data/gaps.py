"""What becomes of the rows of a file that have gaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from shrinkage.errors import InputError

from .quoting import dropping, quoted, shown

LISTED = 20  # the most columns that a message names


@dataclass(frozen=True)
class GapRules:
    """What is done about gaps in the target and in the other columns, as `TableFile` has it.

    targets: the columns that are predicted. drop: the columns that are left out already.
    """

    targets: Sequence[str]
    missing: str
    missing_target: str
    drop: Sequence[str]

    def whole_rows(self, frame: pd.DataFrame, words: Mapping[str, pd.Series]) -> tuple[pd.DataFrame, list[str]]:
        """Keep the rows that may be learned from, and note how many are left out.

        words: of each column, the words that were read as gaps, by their rows (`Contents.gap_words`). Raises InputError
        if gaps are refused, or no row is left.
        """
        frame, of_target = self.with_target(frame, words)
        frame, of_features = self.without_gaps(frame, words)
        return frame, of_target + of_features

    def with_target(self, frame: pd.DataFrame, words: Mapping[str, pd.Series]) -> tuple[pd.DataFrame, list[str]]:
        """Keep the rows that have a target. Raises InputError if others are there and are not to be left out."""
        missing = frame[list(self.targets)].isna()
        gaps, target = missing.any(axis=1), str(missing.any().idxmax())
        if not gaps.any() or self.missing == "drop":
            return frame, []
        if self.missing_target == "error":
            if frame.drop(columns=list(self.targets)).isna().any(axis=None) and self.missing == "error":
                return frame, []  # all gaps are told together
            raise InputError(
                f"data.target={shown(target)} is missing in {missing[target].sum()} of {len(frame)} rows"
                f"{describe_words(words, target, frame)}: a target cannot be filled in; use "
                "data.missing_target=drop to leave these rows out"
            )
        kept = frame[~gaps]
        if kept.empty:
            raise InputError(f"data.target={shown(target)} has no value at all; choose another column")
        return kept, [f"data.missing_target=drop left out {gaps.sum()} of {len(frame)} rows."]

    def without_gaps(self, frame: pd.DataFrame, words: Mapping[str, pd.Series]) -> tuple[pd.DataFrame, list[str]]:
        """Leave out the rows with gaps, if asked to. Raises InputError if gaps are refused, or no row is left."""
        missing = frame.isna().sum()
        missing = missing[missing > 0]
        if missing.empty:
            return frame, []
        if self.missing == "error":
            columns = ", ".join(
                f"{quoted(column)} in {count}{describe_words(words, column, frame)}"
                for column, count in missing[:LISTED].items()
            )
            columns += f", … ({len(missing)} columns in all)" if len(missing) > LISTED else ""
            others = " data.missing_target=drop" * any(target in missing for target in self.targets)
            left = int(frame.notna().all(axis=1).sum())
            raise InputError(
                f"missing values (of {len(frame)} rows): {columns}; use data.missing=drop to leave rows out and keep "
                f"{left}{self.advise_dropping(frame)}, or data.missing=mean{others} to fill them from the training part"
                f"{' and leave out the rows without a target' * bool(others)}, where a gap in text is a category"
            )
        if self.missing == "drop":
            kept = frame.dropna()
            if kept.empty:
                raise InputError(
                    f"data.missing=drop: every row has a missing value, none is left{self.advise_dropping(frame)}; use "
                    "data.missing=mean, or leave the emptiest columns out with data.drop"
                )
            left_out = len(frame) - len(kept)
            advice = self.advise_dropping(frame)
            return kept, [f"data.missing=drop left out {left_out} of {len(frame)} rows{advice}."]
        return frame, []

    def advise_dropping(self, frame: pd.DataFrame) -> str:
        """Name the few columns without which most rows would be whole, as they are left out; "" if none cost much.

        They are the emptiest features, taken until three quarters of the rows that have a target are whole.
        """
        targets = list(self.targets)
        features = frame[frame[targets].notna().all(axis=1)].drop(columns=targets)
        wanted = 0.75 * len(features)
        if features.notna().all(axis=1).sum() >= wanted:
            return ""
        emptiest = features.isna().sum().sort_values(ascending=False, kind="stable")
        for count in range(1, min(LISTED, len(emptiest) - 1) + 1):
            left = int(features.drop(columns=emptiest.index[:count]).notna().all(axis=1).sum())
            if left >= wanted:
                return f" (with {dropping(*self.drop, *emptiest.index[:count])} {left} would be whole)"
        return ""


def describe_words(words: Mapping[str, pd.Series], column: str, frame: pd.DataFrame) -> str:
    """Say which of a column's gaps are words, and how many: ` (1,775 × 'None')`; "" if none is."""
    own = words.get(column, pd.Series(dtype=object))
    counts = own[own.index.isin(frame.index)].value_counts()
    return f" ({', '.join(f'{count:,} × {quoted(word)}' for word, count in counts.items())})" if len(counts) else ""
