"""Tables 1 to 7 of the paper, as printed. They are context and are never ranked with ours.

*From Image to Video, what do we need in multimodal LLMs?* (RED-VILLM). The judge of nearly all of
it was an unpinned GPT-3.5; judged again weeks apart, the same answers have moved by more than the
methods differ.
"""

from __future__ import annotations

from typing import Any

JUDGE = "GPT-3.5, as printed in the paper"
DATASETS = {
    "msvd-qa": "MSVD-QA",
    "msrvtt-qa": "MSRVTT-QA",
    "tgif-qa": "TGIF-QA",
    "activitynet-qa": "ActivityNet-QA",
}
"""Our name of each dataset of Table 2 and the paper's."""
GENERATIVE = ("vcgbench", "vcgbench-zh")
"""Our names of the benchmark of Table 1, in which its row cn was asked in Chinese."""
ASPECTS = {
    "correctness": "Correct",
    "detail": "Detail",
    "context": "Context",
    "temporal": "Temporal",
    "consistency": "Consistency",
}
"""Our name of each aspect and the paper's (every table but 2)."""
NOTES = (
    "The scores of both tables, and accuracies beside a score, were given by a GPT-3.5 that no "
    "longer exists. They cannot be ranked with numbers that another judge gave.",
    "Table 1: LLaVA-7B's Consistency is 2.39 here and 2.41 in the paper's Table 4.",
    "Table 1: Video-ChatGPT's row is its first release.",
    "Table 1: Qwen-VL-7B(en) is no second model: the Chinese model's answers were translated into "
    "English.",
    "Table 2: FrozenBiLM has no scores; its accuracies are most likely exact matches of its own "
    "paper, not a judge's.",
    "Table 2: the splits are not stated. Video-ChatGPT's own numbers on MSVD-QA and MSRVTT-QA are "
    "on val; most others report test.",
    "Table 2: RED-VILLM's score of 2.8 on MSVD-QA, beside an accuracy of 68.9, is probably a "
    "misprint.",
    "Table 2: in which language Qwen-VL-7B was asked is not stated.",
)

_TABLE_1 = """
VideoLLaMA    | Vicuna-7B      | 1.96 | 2.18 | 2.16 | 1.82 | 1.79
LLaMA-Adapter | LLaMA-7B       | 2.03 | 2.32 | 2.30 | 1.98 | 2.15
VideoChat     | Vicuna-7B      | 2.23 | 2.50 | 2.53 | 1.94 | 2.24
Video-ChatGPT | LLaVA-7B       | 2.40 | 2.52 | 2.62 | 1.98 | 2.37
RED-VILLM     | LLaVA-7B       | 2.57 | 2.64 | 3.13 | 2.21 | 2.39
RED-VILLM     | Qwen-VL-7B(en) | 2.69 | 2.72 | 3.32 | 2.32 | 2.47
RED-VILLM     | Qwen-VL-7B(cn) | 2.71 | 2.75 | 3.34 | 2.34 | 2.45
"""
_TABLE_2 = """
FrozenBiLM    | DeBERTa-V2 | 32.2 | -   | 16.8 | -   | 41.0 | -   | 24.7 | -
VideoLLaMA    | Vicuna-7B  | 51.6 | 2.5 | 29.6 | 1.8 | -    | -   | 12.4 | 1.1
LLaMA-Adapter | LLaMA-7B   | 54.9 | 3.1 | 43.8 | 2.7 | -    | -   | 34.2 | 2.7
VideoChat     | Vicuna-7B  | 56.3 | 2.8 | 45.0 | 2.5 | 34.4 | 2.3 | 26.5 | 2.2
Video-ChatGPT | LLaVA-7B   | 64.9 | 3.3 | 49.3 | 2.8 | 51.4 | 3.0 | 35.2 | 2.7
RED-VILLM     | LLaVA-7B   | 68.9 | 2.8 | 52.4 | 2.9 | 55.9 | 3.1 | 39.2 | 3.0
RED-VILLM     | Qwen-VL-7B | 71.2 | 3.7 | 53.9 | 3.1 | 62.3 | 3.3 | 44.2 | 3.2
"""
_STORIES = {"Video-ChatGPT": "video-chatgpt", "RED-VILLM": "red-villm"}
"""The methods of Table 1 that are rows of recipes/studies/stories.yaml."""
# The Image LLM, the setting as printed, the row of recipes/studies/paper.yaml that has this
# setting, and the five aspects. Table 3 marks what is pooled: temporal pooling is the mean over
# time, which leaves the *spatial* features.
_ABLATIONS = {
    "3": """
LLaVA-7B   | spatial pooling alone      | temporal features | 2.12 | 2.20 | 2.37 | 1.64 | 2.08
LLaVA-7B   | temporal pooling alone     | spatial features  | 2.28 | 2.35 | 2.54 | 1.79 | 2.21
LLaVA-7B   | both                       | both              | 2.40 | 2.52 | 2.62 | 1.98 | 2.37
Qwen-VL-7B | spatial pooling alone      | temporal features | 2.27 | 2.43 | 2.82 | 1.65 | 2.12
Qwen-VL-7B | temporal pooling alone     | spatial features  | 2.44 | 2.61 | 2.97 | 1.88 | 2.33
Qwen-VL-7B | both                       | both              | 2.51 | 2.69 | 3.01 | 2.11 | 2.43
""",
    "4": """
LLaVA-7B   | without                    | shared            | 2.40 | 2.52 | 2.62 | 1.98 | 2.37
LLaVA-7B   | with                       | copy              | 2.57 | 2.64 | 3.13 | 2.21 | 2.41
Qwen-VL-7B | without                    | shared            | 2.51 | 2.69 | 3.01 | 2.11 | 2.43
Qwen-VL-7B | with                       | copy              | 2.71 | 2.75 | 3.34 | 2.34 | 2.45
""",
    "5": """
Qwen-VL-7B | with                       | the alignment module | 2.35 | 2.41 | 2.62 | 1.59 | 2.01
Qwen-VL-7B | without                    | nothing              | 2.71 | 2.75 | 3.34 | 2.34 | 2.45
""",
    "6": """
Qwen-VL-7B | 50                         | fewest            | 2.39 | 2.52 | 2.92 | 2.09 | 2.42
Qwen-VL-7B | 75                         | fewer             | 2.53 | 2.67 | 3.11 | 2.21 | 2.40
Qwen-VL-7B | 100                        | middle            | 2.71 | 2.75 | 3.34 | 2.34 | 2.45
Qwen-VL-7B | 150                        | more              | 2.65 | 2.65 | 3.26 | 2.29 | 2.47
Qwen-VL-7B | 200                        | most              | 2.57 | 2.64 | 3.24 | 2.21 | 2.44
""",
    "7": """
Qwen-VL-7B | 256                        | a quarter         | 2.62 | 2.67 | 3.23 | 2.28 | 2.42
Qwen-VL-7B | 1024                       | all               | 2.71 | 2.75 | 3.34 | 2.34 | 2.45
""",
}
PRINTED_FACTORS = {
    "1": "Method",
    "3": "Pooling",
    "4": "Temporal module",
    "5": "Additional MLP",
    "6": "Frames",
    "7": "Spatial tokens",
}
"""What the printed tables vary, as the head of a column."""
_OF_TABLE_1 = "Table 1: "
PRINTED_NOTES: dict[str, tuple[str, ...]] = {
    "1": tuple(note.removeprefix(_OF_TABLE_1) for note in NOTES if note.startswith(_OF_TABLE_1)),
    "3": (
        "The paper marks what is pooled, we say what the LLM sees: temporal pooling alone (the "
        "mean over time) is our row “spatial features”, spatial pooling alone our row “temporal "
        "features”.",
        "LLaVA-7B's row “both” has Video-ChatGPT's numbers of Table 1: it is the same model.",
    ),
    "4": (
        "LLaVA-7B's row without has Video-ChatGPT's numbers of Table 1 and those of “both” in "
        "Table 3; Qwen-VL-7B's row without has those of “both” in Table 3.",
        "LLaVA-7B's Consistency with a temporal module is 2.41 here and 2.39 in Table 1.",
        "A fresh (random) temporal module is argued against and not tested.",
    ),
    "5": (
        "The fresh MLP stands behind the alignment module of Qwen-VL; one behind both modules is "
        "not tested.",
    ),
    "6": (
        "The Image LLM is not named; the row of 100 frames is that of Qwen-VL-7B(cn) in Table 1.",
        "Consistency is best at 150 frames and lowest at 75; every other aspect is best at 100.",
    ),
    "7": (
        "How 1024 spatial tokens pass Qwen-VL's resampler, which gives 256 for an image, is not "
        "said.",
    ),
}
ONE_RUN = "The paper gives one number a row: no seeds, no intervals, no test behind “significant”."


def printed_tables() -> dict[str, list[dict[str, Any]]]:
    """Tables 1 and 3 to 7 by number: a row a setting, `llm`, `setting`, `row`, each aspect's score.

    `row` is the study's row of the same setting, empty where it has none. Rows of the study that
    the paper has no numbers for (a random module, controls, ...) are in none.
    """
    found = {
        "1": [
            {"setting": (method := row["method"]), "row": _STORIES.get(method, ""), **row}
            for row in published()["table1"]
        ]
    }
    for table, text in _ABLATIONS.items():
        rows = []
        for line in text.strip().splitlines():
            llm, setting, row, *scores = (cell.strip() for cell in line.split("|"))
            numbers = dict(zip(ASPECTS, map(float, scores), strict=True))
            rows.append({"llm": llm, "setting": setting, "row": row, **numbers})
        found[table] = rows
    return found


def published() -> dict[str, Any]:
    """Tables 1 and 2, for report.json.

    `table1`: a row a method with a score for each aspect; `table2`: a row a method with
    `{"accuracy", "score"}` for each dataset, None where nothing is printed; `generative`: datasets
    that the first is about; `judge`; `notes`.
    """
    return {
        "judge": JUDGE,
        "generative": list(GENERATIVE),
        "table1": [
            {"method": method, "llm": llm, **dict(zip(ASPECTS, numbers, strict=True))}
            for method, llm, numbers in _rows(_TABLE_1)
        ],
        "table2": [
            {"method": method, "llm": llm}
            | {
                name: {"accuracy": accuracy, "score": score}
                for name, accuracy, score in zip(DATASETS, numbers[::2], numbers[1::2], strict=True)
            }
            for method, llm, numbers in _rows(_TABLE_2)
        ],
        "notes": list(NOTES),
    }


def _rows(table: str) -> list[tuple[str, str, list[float | None]]]:
    rows = []
    for line in table.strip().splitlines():
        method, llm, *cells = (cell.strip() for cell in line.split("|"))
        rows.append((method, llm, [None if cell == "-" else float(cell) for cell in cells]))
    return rows
