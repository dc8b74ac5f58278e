"""What page and Markdown say of a study's record, in words and printed numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.report.cells import DASH, interval, number
from eval.report.published import ASPECTS, printed_tables
from eval.report.study.svg import fraction
from features.errors import RedVillmError

SCHEMA = 2
"""Of results.json, as pipelines/study/outcome.py writes it."""
DRAWN = ("temporal", "content", "all")
"""Measures that have a picture: those that every study has and claims are about."""
SYMBOLS = {"holds": "✓", "does not hold": "✗", "undecided": "?"}
"""Verdicts, each with a sign of its own beside its word and colour."""
QUICK = "Quick run on validation videos: not the result."
NOT_COMPARABLE = "as printed, GPT-3.5; not comparable with our numbers"
_HEX = re.compile(r"[0-9a-f]{16,}")
_MEANS = {
    "content": ("correctness", "detail", "context"),
    "all": tuple(ASPECTS),
}
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """Numbers of a table that belong together."""

    budget: str
    reading: str

    @property
    def name(self) -> str:
        """As the page says it."""
        return f"{self.budget} budget" + (f", reading {self.reading}" if self.reading else "")

    def has(self, entry: Json) -> bool:
        """Whether a row or a claim of the record belongs here."""
        return (entry["budget"], entry["reading"]) == (self.budget, self.reading)


@dataclass(frozen=True)
class Numbers:
    """How numbers of a kind of study are printed."""

    five: bool

    @property
    def unit(self) -> str:
        """Of scores."""
        return "score, 0 to 5" if self.five else "percent"

    @property
    def digits(self) -> int:
        """Behind the point."""
        return 2 if self.five else 1

    def score(self, score: Json) -> str:
        """A mean with its interval."""
        mean, low, high = (as_float(score[name]) for name in ("mean", "low", "high"))
        return interval(mean, low, high, self.digits)

    def spread(self, score: Json) -> str:
        """Standard deviation over pairs."""
        return number(as_float(score["sd"]), self.digits)

    def difference(self, claim: Json) -> str:
        """With its interval, all with signs."""
        values = [self.signed(claim[name]) for name in ("difference", "low", "high")]
        if claim["low"] is None or claim["high"] is None:
            return values[0]
        return f"{values[0]} [{values[1]}, {values[2]}]"

    def signed(self, value: Any) -> str:
        """A difference alone."""
        text = DASH if value is None else f"{value:+.{self.digits}f}"
        return text.replace("-", "\N{MINUS SIGN}")

    def detectable(self, claim: Json) -> str:
        """The smallest detectable effect."""
        return number(as_float(claim["smallest_detectable"]), self.digits)

    def margin(self, claim: Json) -> float:
        """How far apart counts as close, in the study's own unit."""
        return float(claim["margin"]) / (100 if self.five else 1)


def check_record(record: Json) -> None:
    """Refuse a record of another schema.

    Raises:
        RedVillmError: it is one.
    """
    if (got := record.get("schema")) != SCHEMA:
        do = "run the study again; finished cells are kept"
        raise RedVillmError("another schema of results", got=got, wanted=SCHEMA, do=do)


def table_name(table: str) -> str:
    """`3` is the paper's Table 3; what has no number is called by its name."""
    return f"Table {table}" if table.isdecimal() else table[:1].upper() + table[1:]


def groups(table: Json) -> list[Group]:
    """Budgets by readings, the headline first."""
    readings = table["readings"] or [""]
    return [Group(budget, reading) for budget in table["budgets"] for reading in readings]


def rows_of(table: Json, group: Group) -> list[Json]:
    """A table's rows of one group, in order."""
    return [row for row in table["rows"] if group.has(row)]


def quantity(row: Json) -> str:
    """What a row's name stands for on a curve's axis, unless the name says it."""
    text = "" if row["x"] is None else fraction(float(row["x"]))
    return f"({text})" if text not in ("", row["row"]) else ""


def claims_of(record: Json, table: str) -> list[list[Json]]:
    """A table's claims, each with all its entries, the headline's first."""
    found: dict[str, list[Json]] = {}
    for claim in record["claims"]:
        if claim["table"] == table:
            found.setdefault(claim["claim"], []).append(claim)
    return [sorted(entries, key=lambda entry: not entry["headline"]) for entries in found.values()]


def headlines(record: Json) -> list[Json]:
    """What the verdicts are headed by."""
    return [claim for claim in record["claims"] if claim["headline"]]


def others(record: Json, headline: Json) -> list[Json]:
    """The same claim at other budgets and in other readings."""
    key = headline["table"], headline["claim"]
    same = [claim for claim in record["claims"] if (claim["table"], claim["claim"]) == key]
    return [claim for claim in same if claim is not headline]


def group_of(claim: Json) -> Group:
    """Where a claim's numbers stand."""
    return Group(claim["budget"], claim["reading"])


def tally(record: Json) -> list[str]:
    """How many claims of the paper, and how many of ours, fell which way."""
    lines = []
    for paper, whose in ((True, "Claims of the paper"), (False, "Claims of our own")):
        found = Counter(c["verdict"] for c in headlines(record) if bool(c["paper"]) == paper)
        if total := found.total():
            counts = ", ".join(f"{verdict} {found[verdict]}" for verdict in SYMBOLS)
            lines.append(f"{whose}: {total}; {counts}.")
    return lines


def compared(claim: Json) -> str:
    """What was taken from what."""
    text = f"{claim['more']} \N{MINUS SIGN} {claim['less']}, {claim['measure']}"
    if claim["beyond"]:
        return f"{text} beyond {claim['beyond']}"
    return text


def printed_differences(claim: Json) -> list[tuple[str, float]]:
    """The same difference between the paper's printed scores, by Image LLM, where it has both.

    Content is the mean of correctness, detail and context there, all the mean of five.
    """
    rows = printed_tables().get(claim["table"], [])
    found = []
    for llm in dict.fromkeys(row["llm"] for row in rows):
        of = {row["row"]: row for row in rows if row["llm"] == llm}
        if claim["more"] in of and claim["less"] in of:
            more, less = of[claim["more"]], of[claim["less"]]
            gap = _gap(more, less, claim["measure"])
            gap -= _gap(more, less, claim["beyond"]) if claim["beyond"] else 0.0
            found.append((llm, gap))
    return found


def printed_text(claim: Json) -> str:
    """`printed_differences` in a line."""
    signed = Numbers(five=True).signed
    return ", ".join(f"{llm} {signed(gap)}" for llm, gap in printed_differences(claim)) or DASH


def facts(record: Json) -> list[tuple[str, str]]:
    """What was run, for the head of the page."""
    found = [
        ("Base", ", ".join(f"{b['name']} ({shortened(b['digest'])})" for b in record["bases"])),
        ("Trained on", f"{record['dataset']}, as {record['experiment']}"),
        ("Asked", "; ".join(asked(benchmark) for benchmark in record["benchmarks"])),
        ("Judge", record["judge"]),
        *((f"Measure: {name}", label) for name, label in record["measures"].items()),
    ]
    fixed = dict(record["frozen"] or {})
    unsaid = fixed.pop("defaults", {})
    texts = [f"{key.replace('_', ' ')} {shortened(value)}" for key, value in fixed.items()]
    texts += [f"defaults of {', '.join(unsaid)}, written out in the lock file"] if unsaid else []
    text = "; ".join(texts)
    return [*found, ("Fixed beforehand", text or "nothing")]


def asked(benchmark: Json) -> str:
    """A benchmark by name, with what of it was translated and which way."""
    told = benchmark.get("translations")
    return f"{benchmark['dataset']}, {benchmark['split']}" + (f" - {told}" if told else "")


def lead(record: Json) -> str:
    """What was run, in a sentence."""
    bases = len(record["bases"])
    cells = len({c["cell"] for c in record["cells"] if c["split"] == record["split"]})
    text = (
        f"{cells:,} runs of {record['base']} on {bases} independently pretrained "
        f"base{'s' if bases != 1 else ''}, each scored on {record['questions']:,} questions about "
        f"{record['videos']:,} videos of the {record['split']} split."
    )
    frozen = record["frozen"]
    if frozen is None:
        return text
    return (
        f"{text} World, recipe and bases were fixed on {frozen['frozen']}, before the test videos "
        f"were rendered from seed {frozen['test_seed']}."
    )


def gaps(record: Json) -> str:
    """That planned runs are missing; nothing of a whole study."""
    if not (missing := record["missing"]):
        return ""
    runs = "1 planned run is" if missing == 1 else f"{missing:,} planned runs are"
    return f"Not the whole study: {runs} missing (not run yet, or failed)."


def failures(record: Json) -> list[str]:
    """Runs that failed, each with what went wrong."""
    return [f"{one['cell']}: {one['error']}" for one in record["failed"]]


def shortened(value: object) -> str:
    """Any value of the record as text, its hashes to their first twelve digits."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shortened(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(shortened, value))
    return _HEX.sub(lambda match: match[0][:12], str(value))


def p_value(claim: Json) -> str:
    """Of the test, with four digits."""
    return DASH if claim["p"] is None else f"{claim['p']:.4f}"


def adjusted(claim: Json) -> str:
    """The p adjusted for the number of claims (Holm), of claims that have one."""
    return "" if claim.get("p_holm") is None else f"Holm {claim['p_holm']:.4f}"


def count(entry: Json) -> str:
    """Pairs that a claim or a row rests on, and of how many planned ones where some are missing."""
    found, planned = entry["n"] if "n" in entry else entry["pairs"], entry["planned"]
    return whole(found) if found is None or found >= planned else f"{found} of {planned}"


def whole(value: Any) -> str:
    """A number without digits behind its point."""
    return DASH if value is None else f"{value:.0f}"


def anchor(record: Json, claim: Json) -> str:
    """Where the page has a claim: names may hold anything, so it is counted."""
    return f"claim-{headlines(record).index(claim) + 1}"


def settings(cell: Json) -> str:
    """A cell's settings in a line."""
    return ", ".join(f"{key} {value}" for key, value in cell["settings"].items())


def missing(entry: Json) -> str:
    """Why a score or a claim has no number."""
    return str(entry.get("why") or "no finished run has this number")


def as_float(value: Any) -> float | None:
    """JSON knows no difference between 3 and 3.0."""
    return None if value is None else float(value)


def _gap(more: Json, less: Json, measure: str) -> float:
    names = _MEANS.get(measure, (measure,))
    return sum(float(more[name]) - float(less[name]) for name in names) / len(names)
