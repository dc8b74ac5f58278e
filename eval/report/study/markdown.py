"""The study as Markdown: the page's tables, to read, to mail and to put into a repository."""

from __future__ import annotations

from collections.abc import Iterator

from eval.report.cells import DASH
from eval.report.markdown import markdown_list, markdown_table, plain
from eval.report.published import ASPECTS, ONE_RUN, PRINTED_FACTORS, PRINTED_NOTES, printed_tables
from eval.report.study import view
from eval.report.study.view import Json, Numbers


def write_study_markdown(record: Json) -> str:
    """The text of report.md, from the record alone.

    Raises:
        RedVillmError: the record has another schema.
    """
    view.check_record(record)
    numbers = Numbers(record["kind"] == "five")
    blocks = [plain(f"# Which claims hold? Study “{record['study']}” of {record['base']}")]
    if record["quick"]:
        blocks.append(f"**{view.QUICK}**")
    if record["missing"]:
        blocks.append(f"**{view.gaps(record)}**")
    blocks += [plain(view.lead(record))]
    blocks += [markdown_list(f"{name}: {value}" for name, value in view.facts(record))]
    blocks += ["## Verdicts", plain(" ".join(view.tally(record)))]
    blocks.append(_claims(view.headlines(record), numbers))
    for table in record["tables"]:
        blocks += _section(record, table, numbers)
    blocks += ["## Method", *map(plain, record["method"].split("\n\n"))]
    blocks.append("## All cells")
    if record["failed"]:
        blocks += ["Failed:", markdown_list(view.failures(record))]
    return "\n\n".join([*blocks, _cells(record, numbers)]) + "\n"


def _section(record: Json, table: Json, numbers: Numbers) -> Iterator[str]:
    split = " (validation videos)" if table["split"] == "val" else ""
    yield f"## {plain(view.table_name(table['table']) + '. ' + table['title'] + split)}"
    yield plain(
        f"Ours: {numbers.unit}, mean over pairs of base and seed [95 % interval], standard "
        f"deviation over pairs; judge {record['judge']}."
    )
    yield _rows(record, table, numbers)
    if table["table"] in printed_tables():
        yield from _printed(table["table"])
    for claim, *others in view.claims_of(record, table["table"]):
        yield f"### {plain(claim['says'] + ('' if claim['paper'] else ' (our own claim)'))}"
        yield _claims([claim, *others], numbers)
        yield markdown_list(
            f"{view.group_of(entry).name}: {entry['verdict']}. {entry['why']}"
            for entry in (claim, *others)
        )


def _rows(record: Json, table: Json, numbers: Numbers) -> str:
    head = [table["factor"], "budget"]
    head += [name for measure in record["measures"] for name in (measure, "sd")] + ["pairs"]
    lines = []
    for group in view.groups(table):
        for row in view.rows_of(table, group):
            scores = [row["scores"][measure] for measure in record["measures"]]
            shown = [text for s in scores for text in (numbers.score(s), numbers.spread(s))]
            name = f"{row['row']} {view.quantity(row)}"
            lines.append([name, group.name, *shown, view.count(row)])
    return markdown_table(head, lines, words=2)


def _printed(table: str) -> Iterator[str]:
    yield plain(f"The paper's Table {table} ({view.NOT_COMPARABLE}):")
    rows = [
        [row["llm"], row["setting"], row["row"] or DASH, *(f"{row[name]:.2f}" for name in ASPECTS)]
        for row in printed_tables()[table]
    ]
    head = ["Image LLM", PRINTED_FACTORS[table], "our row", *ASPECTS.values()]
    yield markdown_table(head, rows, words=3)
    yield markdown_list([*PRINTED_NOTES[table], ONE_RUN])


def _claims(claims: list[Json], numbers: Numbers) -> str:
    head = ["table", "claim", "tested", "budget", "verdict", "difference [95 % interval]", "p"]
    head += ["n", "smallest detectable", "as printed"]
    rows = [
        [
            *(claim["table"], claim["says"], claim["tested"], view.group_of(claim).name),
            f"{view.SYMBOLS[claim['verdict']]} {claim['verdict']}",
            *(
                numbers.difference(claim),
                f"{view.p_value(claim)} {view.adjusted(claim)}",
                view.count(claim),
            ),
            *(numbers.detectable(claim), view.printed_text(claim)),
        ]
        for claim in claims
    ]
    return markdown_table(head, rows, words=5)


def _cells(record: Json, numbers: Numbers) -> str:
    head = ["row", "base", "seed", "budget", "split", "frames", *record["measures"]]
    head += ["judged of asked", "lost", "steps", "training, s", "answers, s"]
    head += ["settings", "fingerprint", "run"]
    rows = [
        [
            f"{cell['table']}: {cell['row']}" + (f", {cell['reading']}" if cell["reading"] else ""),
            *(cell["base"], cell["seed"], cell["budget"], cell["split"], cell["num_frames"]),
            *(numbers.score(cell["scores"][measure]) for measure in record["measures"]),
            f"{cell['judged']} of {cell['asked']}",
            ", ".join(f"{code} {count}" for code, count in cell["lost"].items()) or DASH,
            *(view.whole(cell[name]) for name in ("steps", "train_s", "answer_s")),
            *(view.settings(cell), cell["cell"], cell["run"]),
        ]
        for cell in record["cells"]
    ]
    return markdown_table(head, rows)
