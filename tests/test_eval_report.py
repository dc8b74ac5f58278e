"""The report, from evaluation folders written here by hand; the page is read by a real parser."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from eval.report import NUM_SAMPLES, NamedRun, build_report, terminal_table
from features.errors import RedVillmError
from features.plan import extend_plan, source_video
from features.spec import FeatureSpec
from features.store import FeatureStore, VideoRow, create_store, write_shard

EVIL = '<script>alert("x")</script>&amp;<img src=x onerror=alert(1)>'
JUDGE = "offline-em-f1/1"


def save_eval(
    folder: Path,
    right: Iterable[bool | None],
    pred: str = "red",
    judge: str = JUDGE,
    annotations: str = "a1",
    prefix: str = "q",
) -> Path:
    """An evaluation of questions in pairs about one video; None is a lost question."""
    folder.mkdir(parents=True)
    rows, verdicts = [], []
    for number, correct in enumerate(right):
        sample_id = f"{prefix}{number:03d}"
        rows.append(
            {
                "sample_id": sample_id,
                "video_id": f"v{number // 2}",
                "type": "temporal" if number % 2 else "spatial",
                "question": f"what is it {number}",
                "answer": "red",
                "pred": None if correct is None else pred,
                "lost": "truncated" if correct is None else None,
                "finish_reason": None if correct is None else "stop",
                "num_tokens": None if correct is None else 1,
            }
        )
        outcome = "lost" if correct is None else "ok"
        f1 = None if correct is None else float(correct)
        verdict = {"sample_id": sample_id, "outcome": outcome, "correct": correct, "f1": f1}
        verdicts.append(verdict | {"judge": judge})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "predictions.jsonl").write_text(text)
    (folder / "verdicts.jsonl").write_text("".join(json.dumps(v) + "\n" for v in verdicts))
    meta = {"schema": 1, "split": "test", "annotations": annotations, "base": "b", "spec": "s"}
    meta |= {"features": "f", "checkpoint": f"c-{folder.parent.name}"}
    (folder / "predictions.meta.json").write_text(json.dumps(meta))
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "summary.json").write_text(json.dumps({"predictions": digest}))
    return folder


class Page(HTMLParser):
    """Elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def jpeg(value: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(target, "JPEG")
    return target.getvalue()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    spec = FeatureSpec("checkpoint", "0" * 64, 32, "crop-bicubic", 2)
    path = create_store(tmp_path_factory.mktemp("store"), spec)
    plan = extend_plan(path, [source_video(i, None) for i in ("v0", "v1")], 2, {})
    ones = np.ones((2, 4), np.float32)
    thumbs = (jpeg(50), jpeg(90))
    rows = [VideoRow("v0", "ok", temporal=ones, spatial=ones, thumbs=thumbs)]
    write_shard(path, spec, plan, 0, [*rows, VideoRow("v1", "truncated")])
    return FeatureStore(path)


def test_report_json_has_the_numbers(tmp_path: Path) -> None:
    # Per video (spatial, temporal); the second seed of "b" is right everywhere.
    half = [True, False, True, True, False, False, True, True]
    runs = [
        NamedRun("a", (save_eval(tmp_path / "a/eval", half),)),
        NamedRun(
            "b",
            (
                save_eval(tmp_path / "b0/eval", half),
                save_eval(tmp_path / "b1/eval", [True] * 8),
            ),
        ),
    ]
    report = build_report(
        runs,
        tmp_path / "out",
        seconds={"train": 1.26},
        fingerprints={"lock": "l"},
        compare=[("b", "a")],
    )
    assert report == json.loads((tmp_path / "out/report.json").read_text("utf-8"))
    assert {"rows", "fingerprints", "seconds"} <= set(report)
    assert report["judge"] == JUDGE
    assert report["seconds"] == {"train": 1.3}
    assert report["fingerprints"] == {
        "checkpoint of a": "c-a",
        "checkpoint of b (seed 1)": "c-b0",
        "checkpoint of b (seed 2)": "c-b1",
        "base": "b",
        "spec": "s",
        "features": "f",
        "annotations": "a1",
        "lock": "l",
    }
    a, b = report["rows"]
    assert (a["name"], a["seeds"], b["name"], b["seeds"]) == ("a", 1, "b", 2)
    assert list(a["types"]) == ["spatial", "temporal"]
    assert a["types"]["spatial"]["accuracy"] == 75
    assert a["types"]["temporal"]["accuracy"] == 50
    assert b["types"]["temporal"]["accuracy"] == 75
    assert b["all"]["accuracy"] == pytest.approx(81.25)
    for row in report["rows"]:
        for score in row["types"].values():
            assert {"asked": 4, "judged": 4, "lost": 0}.items() <= score.items()
            assert 0 <= score["low"] <= score["accuracy"] <= score["high"] <= 100
    difference = {d["type"]: d["points"] for d in report["differences"]}
    assert difference == {"spatial": 12.5, "temporal": 25}


def test_page_is_one_file_that_asks_for_nothing(tmp_path: Path, store: FeatureStore) -> None:
    right = [True, False] * 20
    runs = [NamedRun(n, (save_eval(tmp_path / n / "e", right),)) for n in ("one", "two")]
    build_report(
        runs, tmp_path / "out", seconds={}, fingerprints={}, store=store, compare=[("one", "two")]
    )
    page = Page((tmp_path / "out/report.html").read_text("utf-8"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html",
        "report.json",
    ]
    assert not {"script", "link", "iframe", "form", "object", "a"} & {n for n, _ in page.elements}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or (value or "").startswith(
                "data:image/jpeg;base64,"
            )
    policy = [attributes for _, attributes in page.elements if "http-equiv" in attributes]
    assert "default-src 'none'" in str(policy[0]["content"])
    assert page.count("article") == NUM_SAMPLES
    assert page.count("caption") == 5
    scopes = [attributes.get("scope") for name, attributes in page.elements if name == "th"]
    assert set(scopes) == {"row", "col"}
    headers = page.text.split("Coverage")[0]
    assert headers.count(JUDGE) >= 4  # in the sentence and in every column head
    assert "✓ right" in page.text
    assert "✗ wrong" in page.text
    sources = {value for _, attributes in page.elements if (value := attributes.get("src"))}
    assert {base64.b64decode(source.split(",")[1]) for source in sources} <= {jpeg(50), jpeg(90)}


def test_frames_come_from_the_store(tmp_path: Path, store: FeatureStore) -> None:
    runs = [NamedRun("one", (save_eval(tmp_path / "e", [True] * 4),))]
    build_report(runs, tmp_path / "out", seconds={}, fingerprints={}, store=store)
    page = Page((tmp_path / "out/report.html").read_text("utf-8"))
    sources = [attributes["src"] for name, attributes in page.elements if name == "img"]
    found = [base64.b64decode(str(source).split(",")[1]) for source in sources]
    assert found == [jpeg(50), jpeg(90)] * 2  # two questions about v0; v1 has no features


def test_whatever_a_model_or_a_file_says_stays_text(tmp_path: Path) -> None:
    folder = save_eval(tmp_path / "e", [True, False], pred=EVIL, prefix=EVIL)
    runs = [NamedRun(EVIL, (folder,))]
    report = build_report(
        runs,
        tmp_path / "out",
        seconds={EVIL: 1.0},
        fingerprints={EVIL: EVIL},
        title=EVIL,
    )
    page = Page((tmp_path / "out/report.html").read_text("utf-8"))
    assert page.count("script") == page.count("img") == 0
    # title, heading, run's name in table, chart (cut), coverage; answers, ids, stage, fingerprint
    assert page.text.count(EVIL) >= 10
    assert EVIL in json.dumps(report).replace('\\"', '"')


def test_lost_questions_take_the_accuracy_away_but_not_the_counts(tmp_path: Path) -> None:
    runs = [
        NamedRun("good", (save_eval(tmp_path / "g", [True] * 6),)),
        NamedRun("bad", (save_eval(tmp_path / "b", [True, True, None, None, True, True]),)),
    ]
    report = build_report(runs, tmp_path / "out", seconds={}, fingerprints={})
    bad = report["rows"][1]
    assert bad["types"]["spatial"] == {
        "accuracy": None,
        "low": None,
        "high": None,
        "f1": None,
        "asked": 3,
        "judged": 2,
        "lost": 1,
    }
    assert "only 4 of 6 questions were judged" in bad["refused"]
    page = Page((tmp_path / "out/report.html").read_text("utf-8"))
    assert bad["refused"] in page.text
    assert "lost: truncated" in page.text
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(terminal_table(report))
    text = console.export_text()
    assert "\N{EN DASH} (2 of 3 judged)" in text
    assert "100.0 [100.0..100.0]" in text
    assert JUDGE in text


def test_types_by_number_get_names(tmp_path: Path) -> None:
    folder = save_eval(tmp_path / "e", [True] * 4)
    path = folder / "predictions.jsonl"
    text = path.read_text().replace('"temporal"', '"1"').replace('"spatial"', '"0"')
    path.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / "summary.json").write_text(json.dumps({"predictions": digest}))
    runs = [NamedRun("one", (folder,))]
    report = build_report(
        runs, tmp_path / "out", seconds={}, fingerprints={}, type_names=("object", "number")
    )
    assert list(report["rows"][0]["types"]) == ["number", "object"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"judge": "gpt/1"}, "different judges"),
        ({"annotations": "a2"}, "different annotations"),
        ({"prefix": "x"}, "questions and verdicts do not match"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, other: dict[str, str], message: str
) -> None:
    runs = [
        NamedRun("one", (save_eval(tmp_path / "1", [True] * 4),)),
        NamedRun("two", (save_eval(tmp_path / "2", [True] * 4, **other),)),
    ]
    with pytest.raises(RedVillmError, match=message):
        build_report(runs, tmp_path / "out", seconds={}, fingerprints={})
    assert not (tmp_path / "out").exists()
    with pytest.raises(RedVillmError, match="distinct names"):
        build_report([runs[0], runs[0]], tmp_path / "out", seconds={}, fingerprints={})
