"""Tables 1 and 2 of the paper, as printed. They are context and are never ranked with ours.

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
ASPECTS = {
    "correctness": "Correct",
    "detail": "Detail",
    "context": "Context",
    "temporal": "Temporal",
    "consistency": "Consistency",
}
"""Our name of each aspect of Table 1 and the paper's."""
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


def published() -> dict[str, Any]:
    """Both tables, for report.json.

    `table1`: a row a method with a score for each aspect; `table2`: a row a method with
    `{"accuracy", "score"}` for each dataset, None where nothing is printed; `judge`; `notes`.
    """
    return {
        "judge": JUDGE,
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
