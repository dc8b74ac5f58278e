from __future__ import annotations
from eval.report.runs import NamedRun, Part
