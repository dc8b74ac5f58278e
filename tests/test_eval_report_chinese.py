"""A report of Chinese answers: what was translated is told, and the browser is told the script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from browser import watch
from judged_runs import MODEL, OFFLINE, answer_rows, build, exactly, one, save_judged, scored
from playwright.sync_api import Browser, Page, expect
from rich.console import Console

from benchmarks.chromium import chromium
from eval.folders import eval_folder
from eval.report.build import Part, terminal_table
from eval.report.study.comparison import write_comparison_page
from eval.report.study.svg import Point, rows_picture, strip_picture
from features.translation import Translation

ASKED = Translation("annotations", "en-zh", "deepl", "ab" * 32, 8000, reviewed=1200)
SAID = Translation("predictions", "zh-en", "deepl", "cd" * 32, 8)
ZH, EN = Part("activitynet-zh", "test"), Part("activitynet", "test.zh-en")
TITLE = "哪个模型答得更好\uff1f"
TYPES = ("时间", "空间关系")
FONTS = ("Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei")


def told(*records: Translation) -> dict[str, Any]:
    return {"translations": [asdict(record) for record in records]}


def chinese_rows() -> list[dict[str, Any]]:
    rows = answer_rows(["red", "蓝色", "red", "黑色的カメラ"], types=TYPES, prefix="问题")
    for row in rows:
        row |= {"video_id": f"视频{row['video_id']}", "question": "圆形是什么颜色的"}
    rows[2]["question"] = "iPhone 是什么颜色"
    rows[3]["question"] = "what colour is the word 红"
    return rows


def both_routes(run: Path, translated: dict[str, Any] | None = None) -> Path:
    judge = replace(OFFLINE, language="zh")
    save_judged(run, chinese_rows(), part=ZH, judges=[(judge, exactly)], **told(ASKED))
    facts = {"split": "test", **(translated or told(ASKED, SAID))}
    return save_judged(run, answer_rows(["red", "blue", "red", "red"]), part=EN, **facts)


def test_direction_and_judge_s_language_stand_at_every_score(tmp_path: Path) -> None:
    report = build([one("甲", both_routes(tmp_path / "r"))], tmp_path / "out", ZH, EN)
    chinese = "annotations en-zh by deepl, 1,200 of 8,000 reviewed"
    english = f"{chinese}; predictions zh-en by deepl"
    assert [(t["split"], t["route"], t["translations"], t["judge"]) for t in report["tables"]] == [
        ("test", "", chinese, "offline-em-f1-2 (zh)"),
        ("test.zh-en", "zh-en", english, "offline-em-f1-2"),
    ]
    facts = report["fingerprints"]
    assert facts["translations (activitynet-zh, test)"] == "annotations en-zh by deepl abababab"
    assert facts["translations (activitynet, test.zh-en)"] == (
        "annotations en-zh by deepl abababab, predictions zh-en by deepl cdcdcdcd"
    )
    console = Console(width=400, record=True)
    console.print(terminal_table(report))
    shown = console.export_text()
    assert chinese in shown
    assert english in shown
    alone = build([one("甲", tmp_path / "r")], tmp_path / "one", ZH)
    console.print(terminal_table(alone))
    assert f"activitynet-zh, test - {chinese}" in " ".join(console.export_text().split())


def test_a_report_without_translations_says_nothing_of_them(tmp_path: Path) -> None:
    run = save_judged(tmp_path / "r", answer_rows(["red"]))
    report = build([one("r", run)], tmp_path / "out")
    assert (report["tables"][0]["route"], report["tables"][0]["translations"]) == ("", "")
    assert not [name for name in report["fingerprints"] if "translat" in name]
    assert "translat" not in (tmp_path / "out/report.md").read_text(encoding="utf-8")


def test_runs_that_were_translated_differently_are_warned_of(tmp_path: Path) -> None:
    other = told(ASKED, replace(SAID, engine="opus-mt"))
    runs = [both_routes(tmp_path / "a"), both_routes(tmp_path / "b", other)]
    report = build([one(run.name, run) for run in runs], tmp_path / "out", ZH, EN)
    (warning,) = [text for text in report["warnings"] if "translated differently" in text]
    assert warning.startswith("activitynet, test.zh-en: ")
    assert "by deepl cdcdcdcd (a); " in warning
    assert "by opus-mt cdcdcdcd (b)" in warning


def test_five_aspects_of_two_routes_are_two_tables(tmp_path: Path) -> None:
    parts = []
    for end, facts in (("", told()), (".zh-en", told(SAID))):
        for split, aspects in (
            ("generic", ["correctness", "detail", "context"]),
            ("temporal", ["temporal"]),
            ("consistency", ["consistency"]),
        ):
            part = Part("vcgbench", split + end)
            rows = answer_rows(["red"] * 2, types=("",), pairs=split == "consistency")
            mean = 1.0 if end else 4.0
            judges = [(MODEL, scored([mean] * 2))]
            facts |= {"split": split}
            save_judged(tmp_path / "r", rows, part=part, aspects=aspects, judges=judges, **facts)
            parts.append(part)
    report = build([one("r", tmp_path / "r")], tmp_path / "out", *parts)
    found = {(five["route"], five["translations"]): five["rows"] for five in report["five"]}
    assert {key: rows[0]["mean_of_aspects"]["mean"] for key, rows in found.items()} == {
        ("", ""): 4.0,
        ("zh-en", "predictions zh-en by deepl"): 1.0,
    }
    markdown = (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert "### vcgbench, the five aspects - predictions zh-en by deepl" in markdown


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("report")
    build([one("甲组模型", both_routes(folder / "r"))], folder, ZH, EN, title=TITLE)
    page = browser.new_page(reduced_motion="reduce")
    seen = watch(page)
    page.goto((folder / "report" / "index.html").as_uri())
    page.wait_for_selector("#samples .detail h3")
    yield page
    assert seen.problems == []
    page.close()


def test_the_page_says_what_was_translated(page: Page) -> None:
    captions = page.locator("#results caption").all_inner_texts()
    chinese = "annotations en-zh by deepl, 1,200 of 8,000 reviewed"
    assert captions[0].startswith(f"activitynet-zh, split test - {chinese}: accuracy in percent")
    assert captions[0].endswith("judge offline-em-f1-2 (zh)")
    which = f"activitynet, split test.zh-en - {chinese}; predictions zh-en by deepl: accuracy"
    assert captions[1].startswith(which)


def language(page: Page, selector: str) -> list[str]:
    script = "all => all.map((one) => one.closest('[lang]').getAttribute('lang'))"
    found: list[str] = page.locator(selector).evaluate_all(script)
    return found


def test_chinese_texts_are_marked_by_their_script(page: Page) -> None:
    assert page.locator("h1").inner_text() == page.title() == TITLE
    assert language(page, "h1") == ["zh-Hans"]
    assert set(language(page, "#results tbody th")) == {"zh-Hans"}  # the run's name
    assert language(page, "#results thead th:text('时间')") == ["zh-Hans"]
    assert language(page, "#samples option:text('空间关系')") == ["zh-Hans"]
    assert set(language(page, "figure.none, figure text:text('时间')")) == {"zh-Hans"}
    assert set(language(page, "caption, h2, dt")) == {"en"}
    questions, answers = [], []
    for number in range(4):
        page.evaluate(f"location.hash = '#sample=问题00{number}'")
        expect(page.locator(".detail h3")).to_have_text(f"问题00{number}")
        questions += language(page, ".detail dd >> nth=0")
        answers += language(page, ".detail .pred >> nth=0")
    # the last question is English about a Chinese word, the last answer is Japanese
    assert questions == ["zh-Hans", "zh-Hans", "zh-Hans", "en"]
    assert answers == ["en", "zh-Hans", "en", "en"]


@pytest.mark.parametrize("selector", ["h1", ".pred", "td", "select", "figure svg text"])
def test_every_text_falls_back_to_fonts_with_chinese_glyphs(page: Page, selector: str) -> None:
    script = "one => getComputedStyle(one).fontFamily"
    family = page.locator(selector).first.evaluate(script)
    assert all(font in family for font in FONTS)
    assert family.endswith("sans-serif")


def test_chinese_types_and_names_are_found(page: Page) -> None:
    page.locator("#samples [name=type]").select_option("空间关系")
    expect(page.locator("#found")).to_have_text("2 of 4 questions")
    page.locator("#samples [name=text]").fill("视频v1")
    expect(page.locator("#found")).to_have_text("1 of 4 questions")
    expect(page.locator(".detail h3")).to_have_text("问题003")
    page.reload()  # the address brings it back
    expect(page.locator("#found")).to_have_text("1 of 4 questions")
    assert page.locator("#samples [name=text]").input_value() == "视频v1"


def test_a_comparison_of_chinese_answers_is_marked_as_such(
    tmp_path: Path, browser: Browser
) -> None:
    models = []
    for name, pred in (("甲", "蓝色"), ("乙", "red")):
        rows = answer_rows([pred] * 4)
        for row in rows:
            row["question"] = "圆形先是什么颜色"
        run = save_judged(tmp_path / name, rows, part=ZH, **told(ASKED))
        models.append((name, eval_folder(run, ZH.dataset, ZH.split)))
    path = write_comparison_page(models, OFFLINE.slug, None, None, tmp_path / "c.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    assert set(language(page, ".question h3")) == {"zh-Hans"}
    family = page.locator(".pred").first.evaluate("one => getComputedStyle(one).fontFamily")
    assert all(font in family for font in FONTS)
    assert language(page, ".question .pred")[:2] == ["zh-Hans", "en"]
    label = "split test - annotations en-zh by deepl, 1,200 of 8,000 reviewed"
    assert label in page.locator("header p").first.inner_text()
    page.close()


def test_a_picture_cuts_no_chinese_name_in_half_and_counts_it_double() -> None:
    def shown(name: str) -> str:
        picture = strip_picture("t", [(name, [Point(1.0)])], None)
        return str(picture).split('class="name">')[1].split("<")[0]

    assert shown("中文小模型甲") == "中文小模型甲"  # twelve of thirteen letters wide
    assert shown("中文小模型甲乙") == "中文小模型甲…"
    assert shown("a中文小模型甲乙") == "a中文小模型…"  # half a character more has no room
    assert shown("thirteen-wide") == "thirteen-wide"
    assert shown("fourteen-wide!") == "fourteen-wid…"
    assert "空间" in str(rows_picture("标题", [("空间", [Point(1.0)])]))
