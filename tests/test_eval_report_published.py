"""The paper's numbers, each compared with what is printed in it."""

from __future__ import annotations

from eval.report.published import PRINTED_FACTORS, PRINTED_NOTES, printed_tables, published
from pipelines.study.recipe import load_study

# Tables 1 and 2 of the paper, typed off again: correctness, detail, context, temporal, consistency;
# accuracy and score on MSVD-QA, MSRVTT-QA, TGIF-QA and ActivityNet-QA.
TABLE_1 = {
    ("VideoLLaMA", "Vicuna-7B"): (1.96, 2.18, 2.16, 1.82, 1.79),
    ("LLaMA-Adapter", "LLaMA-7B"): (2.03, 2.32, 2.30, 1.98, 2.15),
    ("VideoChat", "Vicuna-7B"): (2.23, 2.50, 2.53, 1.94, 2.24),
    ("Video-ChatGPT", "LLaVA-7B"): (2.40, 2.52, 2.62, 1.98, 2.37),
    ("RED-VILLM", "LLaVA-7B"): (2.57, 2.64, 3.13, 2.21, 2.39),
    ("RED-VILLM", "Qwen-VL-7B(en)"): (2.69, 2.72, 3.32, 2.32, 2.47),
    ("RED-VILLM", "Qwen-VL-7B(cn)"): (2.71, 2.75, 3.34, 2.34, 2.45),
}
TABLE_2 = {
    ("FrozenBiLM", "DeBERTa-V2"): (32.2, None, 16.8, None, 41.0, None, 24.7, None),
    ("VideoLLaMA", "Vicuna-7B"): (51.6, 2.5, 29.6, 1.8, None, None, 12.4, 1.1),
    ("LLaMA-Adapter", "LLaMA-7B"): (54.9, 3.1, 43.8, 2.7, None, None, 34.2, 2.7),
    ("VideoChat", "Vicuna-7B"): (56.3, 2.8, 45.0, 2.5, 34.4, 2.3, 26.5, 2.2),
    ("Video-ChatGPT", "LLaVA-7B"): (64.9, 3.3, 49.3, 2.8, 51.4, 3.0, 35.2, 2.7),
    ("RED-VILLM", "LLaVA-7B"): (68.9, 2.8, 52.4, 2.9, 55.9, 3.1, 39.2, 3.0),
    ("RED-VILLM", "Qwen-VL-7B"): (71.2, 3.7, 53.9, 3.1, 62.3, 3.3, 44.2, 3.2),
}
ASPECTS = ("correctness", "detail", "context", "temporal", "consistency")
DATASETS = ("msvd-qa", "msrvtt-qa", "tgif-qa", "activitynet-qa")


def test_every_number_of_table_1_is_as_printed() -> None:
    found = published()["table1"]
    assert [(row["method"], row["llm"]) for row in found] == list(TABLE_1)
    for row in found:
        numbers = tuple(row[aspect] for aspect in ASPECTS)
        assert numbers == TABLE_1[row["method"], row["llm"]]


def test_every_number_of_table_2_is_as_printed() -> None:
    found = published()["table2"]
    assert [(row["method"], row["llm"]) for row in found] == list(TABLE_2)
    for row in found:
        numbers = tuple(row[name][key] for name in DATASETS for key in ("accuracy", "score"))
        assert numbers == TABLE_2[row["method"], row["llm"]]


def test_notes_say_what_the_tables_do_not() -> None:
    notes = published()["notes"]
    assert published()["judge"] == "GPT-3.5, as printed in the paper"
    assert any("2.41" in note for note in notes)
    (frozen,) = [note for note in notes if "FrozenBiLM" in note]
    assert frozen.startswith("Table 2: FrozenBiLM has no scores; its accuracies are most likely")
    assert not any("Both tables were judged" in note for note in notes)  # FrozenBiLM was not


# Tables 3 to 7, typed off again, by the row of the study that has the setting.
ABLATIONS = {
    "3": {
        ("LLaVA-7B", "temporal features"): (2.12, 2.20, 2.37, 1.64, 2.08),
        ("LLaVA-7B", "spatial features"): (2.28, 2.35, 2.54, 1.79, 2.21),
        ("LLaVA-7B", "both"): (2.40, 2.52, 2.62, 1.98, 2.37),
        ("Qwen-VL-7B", "temporal features"): (2.27, 2.43, 2.82, 1.65, 2.12),
        ("Qwen-VL-7B", "spatial features"): (2.44, 2.61, 2.97, 1.88, 2.33),
        ("Qwen-VL-7B", "both"): (2.51, 2.69, 3.01, 2.11, 2.43),
    },
    "4": {
        ("LLaVA-7B", "shared"): (2.40, 2.52, 2.62, 1.98, 2.37),
        ("LLaVA-7B", "copy"): (2.57, 2.64, 3.13, 2.21, 2.41),
        ("Qwen-VL-7B", "shared"): (2.51, 2.69, 3.01, 2.11, 2.43),
        ("Qwen-VL-7B", "copy"): (2.71, 2.75, 3.34, 2.34, 2.45),
    },
    "5": {
        ("Qwen-VL-7B", "the alignment module"): (2.35, 2.41, 2.62, 1.59, 2.01),
        ("Qwen-VL-7B", "nothing"): (2.71, 2.75, 3.34, 2.34, 2.45),
    },
    "6": {
        ("Qwen-VL-7B", "fewest"): (2.39, 2.52, 2.92, 2.09, 2.42),
        ("Qwen-VL-7B", "fewer"): (2.53, 2.67, 3.11, 2.21, 2.40),
        ("Qwen-VL-7B", "middle"): (2.71, 2.75, 3.34, 2.34, 2.45),
        ("Qwen-VL-7B", "more"): (2.65, 2.65, 3.26, 2.29, 2.47),
        ("Qwen-VL-7B", "most"): (2.57, 2.64, 3.24, 2.21, 2.44),
    },
    "7": {
        ("Qwen-VL-7B", "a quarter"): (2.62, 2.67, 3.23, 2.28, 2.42),
        ("Qwen-VL-7B", "all"): (2.71, 2.75, 3.34, 2.34, 2.45),
    },
}


def test_every_number_of_tables_3_to_7_is_as_printed() -> None:
    found = printed_tables()
    assert list(found) == ["1", *ABLATIONS] == list(PRINTED_FACTORS) == list(PRINTED_NOTES)
    for table, wanted in ABLATIONS.items():
        rows = {(row["llm"], row["row"]): tuple(row[a] for a in ASPECTS) for row in found[table]}
        assert rows == wanted


def test_printed_rows_are_rows_of_the_study_and_those_of_ours_have_none() -> None:
    tables = [*load_study("stories").tables, *load_study("paper").tables]
    study = {table.table: [row.name for row in table.rows] for table in tables}
    for table, rows in printed_tables().items():
        assert {row["row"] for row in rows} - {""} <= set(study[table])
    printed = {table: {row["row"] for row in rows} for table, rows in printed_tables().items()}
    assert set(study["1"]) - printed["1"] == {"untuned"}
    assert set(study["4"]) - printed["4"] == {"random"}
    assert set(study["5"]) - printed["5"] == {"both modules"}
    assert set(study) - set(printed) == {"controls", "data", "learning rate"}


def test_table_1_is_printed_beside_the_study_that_repeats_it() -> None:
    found = {(row["setting"], row["llm"]): row for row in printed_tables()["1"]}
    assert {key: tuple(row[a] for a in ASPECTS) for key, row in found.items()} == TABLE_1
    assert found["Video-ChatGPT", "LLaVA-7B"]["row"] == "video-chatgpt"
    assert found["RED-VILLM", "Qwen-VL-7B(cn)"]["row"] == "red-villm"
    assert found["VideoChat", "Vicuna-7B"]["row"] == ""
    assert len(PRINTED_NOTES["1"]) == 3
    assert all(note[:7] != "Table 1" for note in PRINTED_NOTES["1"])


def test_table_3_says_what_is_pooled_and_we_what_is_left() -> None:
    rows = {(row["llm"], row["setting"]): row["row"] for row in printed_tables()["3"]}
    assert rows["LLaVA-7B", "temporal pooling alone"] == "spatial features"
    assert rows["Qwen-VL-7B", "spatial pooling alone"] == "temporal features"


def test_numbers_that_the_notes_call_equal_are() -> None:
    tables = printed_tables()
    one = {(r["method"], r["llm"]): [r[a] for a in ASPECTS] for r in published()["table1"]}
    of = {(t, r["llm"], r["row"]): [r[a] for a in ASPECTS] for t in tables for r in tables[t]}
    assert one["Video-ChatGPT", "LLaVA-7B"] == of["4", "LLaVA-7B", "shared"]
    assert of["4", "LLaVA-7B", "shared"] == of["3", "LLaVA-7B", "both"]
    assert of["4", "Qwen-VL-7B", "shared"] == of["3", "Qwen-VL-7B", "both"]
    assert one["RED-VILLM", "Qwen-VL-7B(cn)"] == of["6", "Qwen-VL-7B", "middle"]
    assert one["RED-VILLM", "LLaVA-7B"][:4] == of["4", "LLaVA-7B", "copy"][:4]
    assert (one["RED-VILLM", "LLaVA-7B"][4], of["4", "LLaVA-7B", "copy"][4]) == (2.39, 2.41)
