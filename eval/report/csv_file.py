"""report.csv: a line for each row, column and judge of the tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

COLUMNS = (
    *("run", "dataset", "split", "translations", "aspect", "type"),
    *("judge", "judge_slug", "seeds", "of_seeds", "asked", "judged", "lost"),
    *("failures", "refused", "accuracy", "low", "high"),
    *("score", "score_low", "score_high", "exact", "f1", "macro"),
)


def report_csv(report: Mapping[str, Any]) -> str:
    """The text; a number that there is not is an empty field.

    `failures` is `<outcome>:<count>`, several with `;`. `refused`, why there is no number, stands
    in all lines of a row, `macro`, the mean of its types, in that of `all` alone.
    """
    target = io.StringIO()
    writer = csv.DictWriter(target, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for table in report["tables"]:
        for row in table["rows"]:
            for kind, score in ({**row["types"], "all": row["all"]}).items():
                writer.writerow({**table, **row, **score, **_line(row, kind, score)})
    return target.getvalue()


def _line(row: Mapping[str, Any], kind: str, score: Mapping[str, Any]) -> dict[str, Any]:
    """What is called otherwise in the report, or is not of every line."""
    failures = ";".join(f"{outcome}:{count}" for outcome, count in score["failures"].items())
    macro = row["macro"] if kind == "all" else None
    return {"run": row["name"], "type": kind, "failures": failures, "macro": macro}
