"""report.csv: a line for each row, column and judge of the tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

COLUMNS = (
    *("run", "dataset", "split", "aspect", "type", "judge"),
    *("asked", "judged", "lost", "accuracy", "low", "high"),
    *("score", "score_low", "score_high", "exact", "f1"),
)


def report_csv(report: Mapping[str, Any]) -> str:
    """The text; a number that there is not is an empty field."""
    target = io.StringIO()
    writer = csv.DictWriter(target, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for table in report["tables"]:
        for row in table["rows"]:
            for kind, score in ({**row["types"], "all": row["all"]}).items():
                writer.writerow({**table, **score, "run": row["name"], "type": kind})
    return target.getvalue()
