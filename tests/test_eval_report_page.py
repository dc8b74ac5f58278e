"""The page in a real Chromium: what is shown, found, linked and said, and what never happens."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import page_world
import pytest
from browser import Seen, contrast, luminance, watch
from page_world import (
    ASPECTS,
    CHINESE,
    EVIL,
    LABELS,
    MODEL,
    NUM_FIVE,
    NUM_QA,
    OFFLINE,
    RUNS,
    TYPES,
    escaped,
    qa_mark,
    score_mark,
    write_world,
)
from playwright.sync_api import Browser, Page, expect

from benchmarks.chromium import chromium
from benchmarks.report_world import SCALES, make_report_world
from eval.folders import eval_folder
from eval.report.build import build_report
from eval.report.page import single_page, write_page

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"
"""Kept by whoever runs the tests, and ignored by git."""

expect.set_options(timeout=30_000)  # as playwright's own waiting: machines may be busy

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
Open = Callable[..., tuple[Page, Seen]]
Visit = Callable[[str], Page]
GO = """hash => new Promise(done => {
  document.activeElement.blur();
  scrollTo(0, 0);
  if (location.hash === hash) { done(); return; }
  addEventListener("hashchange", () => done(), { once: true });
  location.hash = hash;
})"""
QA, GENERIC = "msvd-qa/test", "vcgbench/generic"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("page") / "report")


@pytest.fixture(scope="module")
def served(index: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(index.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()
        thread.join()


@pytest.fixture
def load(browser: Browser) -> Iterator[Open]:
    """Opens a page and waits until a sample is shown; what it did must be clean in the end."""
    opened: list[tuple[Page, Seen]] = []

    def open_page(url: str, **options: Any) -> tuple[Page, Seen]:
        page = browser.new_page(
            **{"reduced_motion": "reduce"} | options
        )  # clicks wait for scrolling
        opened.append((page, watch(page)))
        page.goto(url)
        page.wait_for_selector("#samples .detail h3")
        return opened[-1]

    yield open_page
    for page, seen in opened:
        assert seen.dialogs == []
        assert seen.problems == []
        page.close()


@pytest.fixture(scope="module")
def watched(browser: Browser, index: Path) -> Iterator[tuple[Page, Seen]]:
    """One page for all tests that leave nothing behind but the address."""
    page = browser.new_page(reduced_motion="reduce")
    seen = watch(page)
    page.goto(index.as_uri())
    page.wait_for_selector("#samples .detail h3")
    yield page, seen
    page.close()


@pytest.fixture
def shown(watched: tuple[Page, Seen]) -> Page:
    """The page, for tests that only read what does not depend on the address."""
    return watched[0]


@pytest.fixture
def visit(watched: tuple[Page, Seen]) -> Iterator[Visit]:
    """Goes to an address of the one page, waits until it is drawn; it must be clean in the end."""
    page, seen = watched

    def go(address: str) -> Page:
        page.evaluate(GO, "")
        page.evaluate(GO, address)
        page.wait_for_selector(".browser:not([aria-busy])")
        return page

    yield go
    assert seen.dialogs == []
    assert seen.problems == []


def found(page: Page) -> int:
    """How many questions the page says it found."""
    return int(page.locator("#found").inner_text().split()[0].replace(",", ""))


def pick(page: Page, name: str, value: str) -> None:
    page.locator(f"#samples [name={name}]").select_option(value)


def count_qa(wanted: Callable[[int], bool]) -> int:
    return sum(wanted(at) for at in range(NUM_QA))


def marks(at: int, judge: str = OFFLINE) -> list[str]:
    return [qa_mark(run, judge, at) for run in range(len(RUNS))]


def settle(page: Page, number: int) -> None:
    """Wait until the page has found so many."""
    expect(page.locator("#found")).to_have_text(re.compile(rf"^{number:,} of "))


def assert_clean(seen: Seen, base: str) -> None:
    assert seen.problems == []
    assert seen.requests
    assert all(url.startswith((base, "data:image/jpeg;base64,")) for url in seen.requests)


def test_it_opens_from_a_disk_and_asks_for_nothing_else(index: Path, load: Open) -> None:
    page, seen = load(index.as_uri())
    page.keyboard.press("End")
    assert page.title() == "How often is the answer right?"
    expect(page.locator(".frames img")).to_have_count(8)
    assert page.eval_on_selector_all(".frames img", "all => all.every(one => one.naturalWidth > 0)")
    assert_clean(seen, index.parent.as_uri())


def test_it_opens_from_a_server_and_asks_for_nothing_else(served: str, load: Open) -> None:
    _, seen = load(served)
    assert_clean(seen, served.removesuffix("index.html"))


def test_only_the_shards_that_are_needed_are_read(index: Path, load: Open) -> None:
    page, seen = load(index.as_uri())
    page.locator("#samples").get_by_role("button", name="next (j)").click()
    expect(page.locator(".detail h3")).to_have_text("q00001")
    files = [url.rsplit("/", 1)[1] for url in seen.requests if "/data/" in url]
    assert sorted(files) == [
        *("p0-frames-0.js", "p0-index.js", "p0-samples-0.js", "report.js")
    ]  # each once


def test_the_one_file_needs_no_other(tmp_path: Path, load: Open) -> None:
    path = tmp_path / "report.html"
    pieces = single_page((name, escaped(value)) for name, value in page_world.calls().items())
    path.write_text("".join(pieces), encoding="utf-8")
    page, seen = load(path.as_uri() + "#part=msvd-qa/test&sample=q00003")
    expect(page.locator(".detail .pred").first).to_have_text(EVIL)
    pick(page, "part", GENERIC)
    settle(page, NUM_FIVE)
    assert page.locator(".frames").count() == 0
    assert_clean(seen, path.as_uri())
    assert len([url for url in seen.requests if not url.startswith("data:")]) == 1


def cells(page: Page, caption: str) -> list[list[str]]:
    """Head and rows of the table that has this in its caption."""
    chosen = page.locator("table").filter(has=page.locator("caption", has_text=caption)).first
    return chosen.evaluate(  # type: ignore[no-any-return]
        "table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )


def test_accuracies_are_those_of_the_report(shown: Page) -> None:
    table = page_world.calls()["report"]["tables"][0]
    head, *rows = cells(
        shown,
        f"msvd-qa, split test: accuracy in percent by type of question, judge {LABELS[OFFLINE]}",
    )
    judged = ["all %", "score, 0 to 5", "mean of types %", *(f"{kind} %" for kind in TYPES)]
    assert head[:2] == ["run", "seeds"]
    assert head[2:8] == [f"{name}{LABELS[OFFLINE]}" for name in judged]
    assert head[8:] == ["exact match %no judge", "token F1 %no judge"]
    assert [row[0] for row in rows] == RUNS
    assert [row[1] for row in rows] == ["1", "2 of 3", "1"]
    for row, told in zip(rows, table["rows"], strict=True):
        scores = [told["all"], *told["types"].values()]
        for cell, score in zip([row[2], *row[5:8]], scores, strict=True):
            text = "{accuracy:.1f} [{low:.1f}, {high:.1f}]".format(**score)
            whole = score["judged"] == score["asked"]
            note = "" if whole else " ({judged} of {asked} judged)".format(**score)
            assert cell == text + note
        assert [" judged)" in cell for cell in row[5:8]] == [False, True, True]
        assert row[3].startswith(f"{told['all']['score']:.2f} [")
        assert row[4] == f"{told['macro']:.1f}"
        assert row[8:] == ["30.5", "41.5"]


def test_a_withheld_number_is_a_dash_and_its_reason_is_said(shown: Page) -> None:
    caption = f"accuracy in percent by type of question, judge {LABELS[MODEL]}"
    notes = ["", " (147 of 150 judged)", " (144 of 150 judged)"]
    assert cells(shown, caption)[3][2:8] == ["no score", DASH, DASH, *(DASH + n for n in notes)]
    lines = shown.locator("#results figure").nth(1).locator("text", has_text="no score")
    expect(lines).to_have_count(1 + len(TYPES))
    told = shown.locator("#results .problem").inner_text()
    assert RUNS[2] in told
    assert "only 70.0 % were judged" in told


def test_five_aspects_and_both_means_are_shown_with_the_judge(shown: Page) -> None:
    head, *rows = cells(shown, "vcgbench: scores of the five aspects")
    assert head[2:9] == [
        f"{name}{LABELS[MODEL]}" for name in [*ASPECTS, "mean of the five", "mean over questions"]
    ]
    assert head[9:11] == ["exact match % (generic)no judge", "token F1 % (generic)no judge"]
    scores = [2.345 + 0.1 * n for n in range(5)]
    assert [cell.split()[0] for cell in rows[0][2:7]] == [f"{x + 1e-9:.2f}" for x in scores]
    assert rows[1][1] == "2 of 3"
    assert rows[1][7:9] == ["3.00 [2.90, 3.10]", "2.90"]
    assert rows[1][9:] == ["30.5", "41.5"] * 3


def test_a_run_without_all_aspects_has_its_row_and_says_what_is_missing(shown: Page) -> None:
    row = cells(shown, "vcgbench: scores of the five aspects")[3]
    assert row[0] == f"{RUNS[2]} not judged for: temporal, consistency"
    assert row[4].startswith("3.35 [")
    assert row[5:9] == [DASH] * 4
    assert row[9:] == ["30.5", "41.5", DASH, DASH, DASH, DASH]


def test_types_of_a_scored_aspect_have_a_table_and_one_type_is_shown_once(shown: Page) -> None:
    head, *rows = cells(shown, "vcgbench, split generic: correctness, 0 to 5, by type")
    assert head == ["run", *(f"{kind}{LABELS[MODEL]}" for kind in ["all", *TYPES])]
    assert [row[0] for row in rows] == RUNS  # whatever the order of the table's rows
    assert [cell.split()[0] for cell in rows[0][1:]] == ["2.41", "2.35", "2.49", "2.63"]
    captions = shown.locator("#results caption, #results figcaption").all_inner_texts()
    assert not [text for text in captions if "split temporal" in text]  # of a single type
    head, *rows = cells(shown, "one-type-qa, split test: accuracy in percent")
    assert head[2:] == [
        *(f"colour %{LABELS[MODEL]}", f"score, 0 to 5{LABELS[MODEL]}"),
        *("exact match %no judge", "token F1 %no judge"),
    ]
    assert not [
        text for text in captions if text.startswith("one-type-qa, split test: accuracy by")
    ]
    head, *rows = cells(shown, "untyped-qa, split test: accuracy in percent")
    assert head[2:4] == [f"{name}{LABELS[MODEL]}" for name in ("all %", "score, 0 to 5")]
    head, *rows = cells(shown, "part-typed-qa, split test: accuracy in percent")
    judged = ("all %", "score, 0 to 5", "colour %")
    assert head[2:5] == [f"{name}{LABELS[MODEL]}" for name in judged]


def test_the_papers_rows_stand_beside_ours_as_printed(shown: Page) -> None:
    head, *rows = cells(
        shown, "msvd-qa as printed in the paper (Table 2), judged by GPT-3.5: not comparable"
    )
    judge = "GPT-3.5, as printed in the paper"
    assert head == ["method", "LLM", f"accuracy %{judge}", f"score{judge}"]
    assert rows == [
        ["FrozenBiLM", "DeBERTa-V2", "32.2", DASH],
        ["RED-VILLM", "LLaVA-7B", "68.9", "2.8"],
    ]
    assert cells(shown, "vcgbench as printed")[1][2:] == ["2.57"] * 5
    notes = shown.locator(".notes").all_inner_texts()
    assert [note.splitlines() for note in notes] == [
        ["Of both tables.", "Table 2: of the second."],
        ["Of both tables.", "Table 1: of the first."],
    ]
    assert "It is not GPT" in shown.locator("#lead").inner_text()
    assert "Warning: left out: <b>some</b> run" in shown.locator("#lead").inner_text()


def test_the_rest_of_the_report_is_there(shown: Page) -> None:
    difference = cells(shown, "The first run minus the second")[1]
    assert difference[0] == f"RED-VILLM {MINUS} base"
    assert difference[4:] == ["13.04 [10.10, 16.00]", "0.41 [0.30, 0.52]", "yes", "440"]
    of_means = cells(shown, "The first run minus the second")[5]
    assert of_means[1] == "vcgbench, mean of the five"
    assert of_means[4:] == [DASH, f"0.40 [{MINUS}0.10, 0.90]", "no", DASH]
    coverage = cells(shown, "One counts as judged")[1]
    assert coverage[3:] == [
        "450",
        "441",
        "98.0",
        "5",
        "truncated 4, no_frames 1",
        "parse_failure 3, refused 1",
        "2",
    ]
    folded = shown.locator("#coverage details")
    assert "The same by type of question (" in folded.last.locator("summary").inner_text()
    of_types = cells(shown, "The same by type of question")
    assert [row[3:7] for row in of_types[1:4]] == [
        ["colour", "150", "150", "100.0"],
        ["motion", "150", "147", "98.0"],
        [TYPES[2], "150", "144", "96.0"],
    ]
    agreement = cells(shown, "How far two judges")[1]
    assert agreement[3:] == ["440", "90.0", "0.712", DASH, f"{MINUS}0.25"]
    cost = cells(shown, "What each evaluation took")
    assert cost[1][3:] == [DASH, "12,345", "2", "234,567", "8,901"]
    assert cost[2][3] == "61.3"
    assert cells(shown, "Wall clock")[1:] == [["extract", "12.5"], ["train", "123.4"]]
    assert cells(shown, "What the answers depend on")[1] == ["base", "a" * 64]
    assert cells(shown, "The last logged values")[2] == [RUNS[2], "1,000", "0.8609", "0.9000"]


def test_bars_and_dots_stand_where_the_numbers_say(shown: Page) -> None:
    bars = shown.locator("#results figure").first.locator("rect.series")
    widths = bars.evaluate_all("all => all.map(one => Number(one.getAttribute('width')))")
    table = page_world.calls()["report"]["tables"][0]
    scores = [
        row["types"][kind]["accuracy"] if kind != "all" else row["all"]["accuracy"]
        for kind in ["all", *TYPES]
        for row in table["rows"]
    ]
    unit = widths[0] / scores[0]
    assert len(widths) == len(scores)
    assert all(abs(width - unit * score) < 0.5 for width, score in zip(widths, scores, strict=True))
    assert shown.locator("#training path.curve").count() == 5  # loss and rate of two, one validated


def test_every_run_has_one_colour_and_one_mark_on_the_whole_page(shown: Page) -> None:
    legends = shown.locator("figure").evaluate_all(
        """all => all.map((one) => [...one.querySelectorAll(".legend li")].map(
            (item) => [item.textContent, item.querySelector("path").getAttribute("class")]))"""
    )
    keys = dict(zip(RUNS, ("series s0", "series s1", "series s2"), strict=True))
    assert len(legends) >= 6
    assert all(keys[name] == mark for legend in legends for name, mark in legend)
    assert [name for name, _ in legends[-1]] == RUNS[1:]  # the first run was not trained
    classes = [path.get_attribute("class") for path in shown.locator("#training path.curve").all()]
    assert classes == ["curve s1", "curve s2", "curve s2", "curve s1", "curve s2"]
    bars = shown.locator("figure", has_text="split generic: correctness").locator("rect.series")
    assert bars.evaluate_all("all => all.slice(0, 3).map(one => one.classList[1])") == [
        *("s0", "s1", "s2")
    ]


def test_charts_say_where_their_numbers_are(shown: Page) -> None:
    said = shown.locator("svg[role=img]").evaluate_all(
        "all => all.map((one) => [one.getAttribute('aria-label'), one.closest('section').id])"
    )
    for name, section in said:
        where = "Final values: " if section == "training" else "The numbers are in the table above."
        assert where in name
    captions = shown.locator("#training figcaption").all_inner_texts()
    assert captions[0] == f"Training loss. Final values: RED-VILLM 0.7609; {RUNS[2]} 0.8609."
    assert captions[1] == f"Validation loss. Final values: {RUNS[2]} 0.9."
    assert "first seed" in shown.locator("#training > p").inner_text()
    assert "thinned" in shown.locator("#training > p").inner_text()
    assert "of one seed" in shown.locator("#agreement caption").inner_text()
    titles = shown.locator("figcaption").all_inner_texts()
    assert not [title for title in titles if title.startswith("empty-qa")]  # nothing to draw


def test_wide_characters_count_double_and_the_whole_name_can_be_read(shown: Page) -> None:
    chart = shown.locator("figure", has_text="chinese-qa, split test: accuracy by type")
    name = chart.locator("text", has_text="…")
    assert name.locator("title").text_content() == page_world.LONG_CHINESE
    box, axis = name.bounding_box(), chart.locator("rect.series").first.bounding_box()
    assert box is not None
    assert axis is not None
    assert box["x"] + box["width"] <= axis["x"]


def test_sections_stand_in_the_order_of_use_and_long_tables_are_folded(shown: Page) -> None:
    ids = shown.locator("main > section").evaluate_all("all => all.map((one) => one.id)")
    assert ids == [
        *("results", "differences", "samples", "coverage", "agreement"),
        *("training", "cost", "fingerprints"),
    ]
    rows = "all => all.map((one) => one.tBodies[0].rows.length)"
    tables = "#coverage table, #agreement table, #training table, #cost table, #fingerprints table"
    folded, plain = (
        shown.locator(f":is({tables}):{how}(details *)").evaluate_all(rows) for how in ("is", "not")
    )
    assert len(folded) == 2
    assert min(folded) > 12 >= max(plain)


@pytest.mark.parametrize("name", ["next (j)", "previous (k)", "next page", "previous page"])
def test_a_button_that_steps_keeps_the_focus(visit: Visit, name: str) -> None:
    page = visit("#sample=q00100")
    button = page.locator("#samples").get_by_role("button", name=name)
    button.focus()
    head = page.locator(".detail h3")
    for _ in range(2):
        before = head.inner_text()
        page.keyboard.press("Enter")
        expect(head).not_to_have_text(before)  # the address alone changes earlier than the page
    assert head.inner_text() in ("q00102", "q00098", "q00200", "q00000")
    if name == "previous page":  # the first page: there is none before
        assert button.is_disabled()
        assert page.evaluate("document.querySelector('.list').contains(document.activeElement)")
    else:
        expect(button).to_be_focused()


def test_unknown_values_of_a_link_filter_nothing(visit: Visit) -> None:
    unknown = "&".join(f"{name}=nothing" for name in ("type", "outcome", "run", "a", "b", "judge"))
    page = visit(f"#part=nowhere/test&key=none&show=nobody&{unknown}")
    settle(page, NUM_QA)
    values = page.locator("#samples select").evaluate_all("all => all.map((one) => one.value)")
    assert values == [QA, f"{OFFLINE} qa", "", "", "", "", "", ""]


def test_type_and_search_filters_find_what_the_data_say(visit: Visit) -> None:
    page = visit("")
    assert found(page) == NUM_QA
    pick(page, "type", TYPES[2])
    settle(page, count_qa(lambda at: at % 3 == 2))
    page.locator("[name=text]").fill("CLIP_01")
    settle(page, count_qa(lambda at: at % 3 == 2 and 50 <= at < 100))
    page.locator("[name=text]").fill("q0012")
    settle(page, count_qa(lambda at: at % 3 == 2 and 120 <= at < 130))
    page.get_by_role("button", name="clear filters").click()
    settle(page, NUM_QA)
    assert page.locator("[name=text]").input_value() == ""


@pytest.mark.parametrize(
    ("outcome", "marked"), [("right", "+"), ("wrong", "-"), ("failed", "parn"), ("lost", "l")]
)
def test_outcomes_are_found_of_one_run_and_of_any(visit: Visit, outcome: str, marked: str) -> None:
    page = visit(f"#key={MODEL}+qa&outcome={outcome}")
    settle(page, count_qa(lambda at: any(mark in marked for mark in marks(at, MODEL))))
    pick(page, "run", RUNS[1])
    expected = count_qa(lambda at: marks(at, MODEL)[1] in marked)
    settle(page, expected)
    assert expected > 0


def test_disagreeing_runs_and_judges_are_found(visit: Visit) -> None:
    page = visit("")
    assert not page.locator(".hint").is_visible()  # no scores here
    assert page.locator("[name=b]").is_disabled()  # one run alone disagrees with nothing
    pick(page, "a", RUNS[0])
    expect(page.locator("[name=b]")).to_be_enabled()
    settle(page, NUM_QA)
    pick(page, "b", RUNS[1])
    settle(page, count_qa(lambda at: set(marks(at)[:2]) == {"+", "-"}))
    pick(page, "b", "")
    pick(page, "a", "")
    pick(page, "judge", f"{MODEL} qa")
    pick(page, "run", RUNS[1])
    settle(page, count_qa(lambda at: {marks(at)[1], marks(at, MODEL)[1]} == {"+", "-"}))


def test_scores_have_filters_of_their_own(visit: Visit) -> None:
    page = visit(f"#part={GENERIC}&key={MODEL}+detail")
    options = page.locator("[name=outcome] option").evaluate_all("all => all.map(o => o.value)")
    assert options == ["", "low", "high"]
    assert page.locator(".hint").is_visible()  # how far scores must be apart
    assert not page.locator("[name=judge]").is_visible()
    assert page.locator("[name=run]").is_disabled()  # filters nothing alone
    pick(page, "outcome", "low")
    pick(page, "run", RUNS[1])
    settle(page, sum(score_mark(1, at) in "012" for at in range(NUM_FIVE)))
    page.get_by_role("button", name="clear filters").click()
    pick(page, "a", RUNS[0])
    pick(page, "b", RUNS[1])
    far = sum(abs(int(score_mark(0, at)) - int(score_mark(1, at))) >= 2 for at in range(NUM_FIVE))
    settle(page, far)


def test_pages_of_the_list_reach_every_question(visit: Visit) -> None:
    page = visit("")
    names: list[str] = []
    for number in range(9):
        expect(page.locator(".list .pager")).to_contain_text(f"page {number + 1} of 9")
        names += page.locator(".list tbody th").all_inner_texts()
        if number < 8:
            page.get_by_role("button", name="next page").click()
    assert names == [f"q{at:05d}" for at in range(NUM_QA)]
    assert page.get_by_role("button", name="next page").is_disabled()
    expect(page.locator(".detail h3")).to_have_text("q00400")
    page = visit(f"#part={GENERIC}&text=g0000")
    settle(page, 10)
    assert page.locator(".list .pager").count() == 0


def test_a_permalink_restores_everything(index: Path, load: Open) -> None:
    page, _ = load(index.as_uri())
    pick(page, "key", f"{MODEL} qa")
    pick(page, "type", TYPES[0])
    pick(page, "outcome", "wrong")
    pick(page, "run", RUNS[2])
    pick(page, "a", RUNS[0])
    pick(page, "b", RUNS[2])
    page.locator("[name=text]").fill("q00")
    page.locator("[name=show]").nth(1).uncheck()
    page.locator(".list tbody a").nth(3).click()
    expect(page.locator(".list tbody tr").nth(3).locator("a")).to_have_attribute(
        "aria-current", "true"
    )
    name = page.locator(".list [aria-current]").inner_text()
    expect(page.locator(".detail h3")).to_have_text(name)
    link = page.get_by_role("link", name="link to this").get_attribute("href")
    controls = """() => [...document.querySelectorAll("#samples select, #samples input")].map(
        one => one.type === "checkbox" ? one.checked : one.value)"""
    before = (
        page.evaluate(controls),
        page.locator("#found").inner_text(),
        page.locator(".detail").inner_text(),
    )
    assert page.url == index.as_uri() + str(link)

    again, _ = load(page.url)
    assert before == (
        again.evaluate(controls),
        again.locator("#found").inner_text(),
        again.locator(".detail").inner_text(),
    )
    assert again.evaluate("document.activeElement.className") == "detail"
    assert again.evaluate("scrollY") > 0


def test_back_and_forward_go_through_what_was_looked_at(visit: Visit) -> None:
    page = visit("")
    pick(page, "type", TYPES[1])
    settle(page, 150)
    page.locator(".list tbody a").nth(2).click()
    expect(page.locator(".detail h3")).to_have_text("q00007")
    pick(page, "part", GENERIC)
    settle(page, NUM_FIVE)
    page.go_back()
    expect(page.locator(".detail h3")).to_have_text("q00007")
    settle(page, 150)
    page.go_back()
    expect(page.locator(".detail h3")).to_have_text("q00001")
    page.go_back()
    settle(page, NUM_QA)
    assert page.locator("[name=type]").input_value() == ""
    page.go_forward()
    settle(page, 150)
    page.locator("#contents a", has_text="Cost").click()
    expect(page.locator("#cost-head")).to_be_in_viewport()
    expect(page.locator("#cost-head")).to_be_focused()
    assert "type=motion" in page.url  # a heading says nothing about samples
    page.evaluate("location.hash = '#cost'")  # as typed
    page.wait_for_url("**#cost")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert found(page) == 150
    pick(page, "outcome", "right")
    settle(page, count_qa(lambda at: at % 3 == 1 and "+" in marks(at)))


def test_keys_walk_through_what_was_found(visit: Visit) -> None:
    page = visit(f"#type={TYPES[0]}&sample=q00147")
    expect(page.locator(".detail h3")).to_have_text("q00147")
    head = page.locator(".detail h3")
    page.locator(".detail").focus()  # as after a link was followed
    page.keyboard.press("j")
    expect(head).to_have_text("q00150")  # the first of the next page of the list
    expect(page.locator(".list .pager")).to_contain_text("page 2 of 3")
    page.keyboard.press("k")
    expect(head).to_have_text("q00147")
    page.locator(".list [aria-current]").focus()
    page.keyboard.press("ArrowUp")
    expect(head).to_have_text("q00144")
    expect(page.locator(".list [aria-current]")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(head).to_have_text("q00147")
    page.locator("[name=text]").press_sequentially("jk")
    assert page.locator("[name=text]").input_value() == "jk"
    settle(page, 0)


def test_the_chosen_row_is_in_sight(visit: Visit) -> None:
    page = visit("#sample=q00140")
    in_sight = """() => {
      const row = document.querySelector(".list tr.current").getBoundingClientRect();
      const box = document.querySelector(".list .scroll").getBoundingClientRect();
      const head = document.querySelector(".list thead").getBoundingClientRect();
      return head.bottom <= row.top + 1 && row.bottom <= box.bottom + 1;
    }"""
    assert page.evaluate(in_sight)
    before = page.evaluate("document.querySelector('.list .scroll').scrollTop")
    assert before > 0
    page.locator(".detail").focus()
    page.keyboard.press("k")
    expect(page.locator(".detail h3")).to_have_text("q00139")
    assert page.evaluate("document.querySelector('.list .scroll').scrollTop") == before
    page.evaluate("location.hash = '#sample=q00100'")
    expect(page.locator(".detail h3")).to_have_text("q00100")
    assert page.evaluate(in_sight)


def test_letters_do_nothing_outside_the_sample_browser(visit: Visit) -> None:
    page = visit("")
    page.locator("#contents a").first.focus()
    page.keyboard.press("j")
    assert page.evaluate("location.hash") == ""
    page.locator(".list tbody a").nth(4).focus()
    page.keyboard.press("j")
    assert page.evaluate("location.hash") == f"#part={QA}&sample=q00001"


def test_all_of_it_can_be_reached_with_the_tab_key(visit: Visit) -> None:
    page = visit("")
    page.locator("[name=part]").focus()
    names: list[str] = []
    for _ in range(11):
        names.append(page.evaluate("document.activeElement.name"))
        page.keyboard.press("Tab")
    assert names == [
        *("part", "key", "type", "outcome", "judge", "a", "text"),
        *("show", "show", "show", ""),
    ]


def test_the_sample_is_shown_in_full(visit: Visit) -> None:
    page = visit(f"#sample=q00011&key={MODEL}+qa")
    detail = page.locator(".detail")
    assert "What happens in number 11?" in detail.inner_text()
    assert detail.locator("dd").all_inner_texts() == ["What happens in number 11?", "reference 11"]
    assert detail.locator("h4").all_inner_texts() == RUNS
    middle = detail.locator(".answer").nth(1)
    assert middle.locator(".pred").inner_text() == "answer 11 of RED-VILLM"
    assert "finish: stop · no exact match · F1 0.25" in middle.inner_text()
    seeds = detail.locator(".verdict").filter(has_text="seeds")
    assert seeds.count() == 1  # not of a run with one seed, not where no seed was judged
    assert "2 of 3 seeds right" in middle.locator(".verdict").first.inner_text()
    assert (
        middle.locator(".verdict")
        .first.inner_text()
        .startswith(f"✗ wrong, score 0 {LABELS[OFFLINE]}")
    )
    assert "parse failure" in middle.locator(".verdict").nth(1).inner_text()
    assert "reason of parse_failure" in middle.locator(".verdict").nth(1).inner_text()
    reply = middle.locator(".verdict").first.locator("details")
    assert not reply.locator("p").is_visible()
    reply.locator("summary").click()
    assert reply.locator("p").inner_text() == '{"score": 0.0}'
    heads = page.locator(".list thead th")
    assert heads.all_inner_texts() == ["question", "type", *RUNS]  # three leave no room
    page.locator("[name=show]").first.uncheck()
    expect(detail.locator("h4")).to_have_text(RUNS[1:])
    assert heads.all_inner_texts() == ["question", "video", "type", *RUNS[1:]]


def test_a_lost_answer_and_an_unknown_sample_are_said(visit: Visit) -> None:
    page = visit("#sample=q00007")
    assert page.locator(".answer .problem").all_inner_texts() == ["lost: truncated"] * 3
    assert page.locator(".answer .verdict").count() == 0  # said once
    assert "seeds" not in page.locator(".answers").inner_text()
    page.evaluate("location.hash = '#sample=nowhere'")
    expect(page.locator(".detail")).to_contain_text(
        "There is no question nowhere in this benchmark."
    )


def test_chinese_is_marked_as_such(visit: Visit) -> None:
    page = visit("#sample=q00004")
    assert page.locator("dd").first.get_attribute("lang") == "zh-Hans"
    assert page.locator("dd").first.inner_text() == CHINESE
    assert page.locator(".pred").first.get_attribute("lang") == "zh-Hans"
    page.evaluate("location.hash = '#sample=q00005'")
    expect(page.locator(".detail h3")).to_have_text("q00005")
    assert page.locator("dd").first.get_attribute("lang") is None


def test_a_video_plays_where_it_is_and_hides_where_it_is_broken(index: Path, load: Open) -> None:
    page, seen = load(index.as_uri())
    video = page.locator("video")
    assert video.get_attribute("preload") == "none"
    assert video.get_attribute("src") == "clip.webm"
    assert not [url for url in seen.requests if "clip.webm" in url]
    video.evaluate("video => { video.play().catch(() => {}); }")
    expect(video).to_be_hidden()
    assert any("clip.webm" in url for url in seen.requests)
    assert any("clip.webm" in problem for problem in seen.problems)
    seen.problems.clear()
    page.evaluate("location.hash = '#sample=q00020'")
    expect(page.locator(".detail h3")).to_have_text("q00020")
    assert page.locator("video").count() == 0


def test_what_models_and_judges_say_stays_text(index: Path, load: Open) -> None:
    page, seen = load(index.as_uri() + "#sample=q00003")
    for summary in page.locator(".detail summary").all():
        summary.click()
    detail = page.locator(".detail")
    assert detail.locator("dd").first.inner_text() == EVIL
    assert detail.locator(".pred").all_inner_texts() == [EVIL] * 3
    assert detail.locator("details p").first.inner_text() == f"{EVIL} because"
    assert page.locator(".list thead th").last.inner_text() == RUNS[2]
    assert page.locator("[name=type] option").last.inner_text() == TYPES[2]
    expect(page.locator(".frames img")).to_have_count(8)
    images = page.locator("img").evaluate_all("all => all.map(one => one.src.slice(0, 16))")
    assert images == ["data:image/jpeg;"] * 8
    scripts = page.locator("script").evaluate_all("all => all.map(one => one.text)")
    assert set(scripts) == {""}  # files alone, none with contents
    assert_clean(seen, index.parent.as_uri())


def test_the_browser_itself_refuses_markup_scripts_and_strangers(index: Path, load: Open) -> None:
    page, seen = load(index.as_uri())
    refused = page.evaluate(
        """() => {
          const tries = [
            () => { document.body.innerHTML = "<p>x</p>"; },
            () => { document.createElement("script").src = "data/report.js"; },
            () => { document.createElement("script").text = "1"; },
            () => trustedTypes.createPolicy("another", {}),
          ];
          return tries.map((one) => { try { one(); return "done"; } catch (e) { return e.name; } });
        }"""
    )
    assert refused == ["TypeError"] * 4
    assert (
        page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'done', () => 'refused')")
        == "refused"
    )
    assert not [url for url in seen.requests if url.startswith("http")]
    assert page.evaluate("[document.cookie, localStorage.length, sessionStorage.length]") == [
        "",
        0,
        0,
    ]
    assert seen.problems  # the console says each
    seen.problems.clear()


@pytest.mark.parametrize("name", ["p0-samples-0", "p0-index", "p0-frames-0", "report"])
def test_a_missing_or_damaged_file_is_said(
    index: Path, browser: Browser, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "report"
    shutil.copytree(index.parent, folder)
    file = folder / "data" / f"{name}.js"
    for remove, words in ((False, "is damaged"), (True, "is missing or cannot be read")):
        file.write_bytes(file.read_bytes()[:-20])
        if remove:
            file.unlink()
        page = browser.new_page()
        page.goto((folder / "index.html").as_uri())
        expect(page.locator("p.problem", has_text=f"data/{name}.js {words}")).to_be_visible()
        if name == "p0-index":
            pick(page, "part", GENERIC)
            settle(page, NUM_FIVE)
            assert page.locator(".problem", has_text="p0-index").count() == 0
            page.locator("[name=part]").focus()
            pick(page, "part", QA)
            expect(page.locator("p.problem", has_text=f"data/{name}.js")).to_be_visible()
            expect(page.locator("[name=part]")).to_be_focused()
            assert page.locator("[name=outcome]").count() == 0  # of another part
            pick(page, "part", GENERIC)
            expect(page.locator("[name=outcome]")).to_be_visible()
        if name == "p0-frames-0":
            expect(page.locator(".detail dd").first).to_have_text("What happens in number 0?")
        page.close()


def test_a_file_that_comes_later_is_read_when_asked_again(
    index: Path, browser: Browser, tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    shutil.copytree(index.parent, folder)
    file = folder / "data" / "p0-samples-1.js"
    file.rename(tmp_path / "kept.js")
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri() + "#sample=q00250")
    expect(page.locator(".detail .problem")).to_contain_text("p0-samples-1.js is missing")
    (tmp_path / "kept.js").rename(file)
    page.evaluate("location.hash = '#sample=q00251'")
    expect(page.locator(".detail dd").first).to_have_text("What happens in number 251?")
    page.close()


def test_every_control_table_and_picture_has_a_name(shown: Page) -> None:
    controls = shown.locator(
        "a, button, select, input, summary, video, [role=region], svg[role=img]"
    )
    names = controls.evaluate_all(
        """all => all.map((one) => {
             const own = one.tagName === "SELECT" ? "" : one.textContent;
             const label = one.labels?.[0]?.textContent;
             return (one.getAttribute("aria-label") || own || label || "").trim();
           })"""
    )
    assert len(names) > 50
    assert all(names)
    assert shown.evaluate("document.documentElement.lang") == "en"
    assert shown.locator("table").count() == shown.locator("table > caption").count()
    assert shown.locator("table th:not([scope])").count() == 0
    assert shown.locator("img:not([alt])").count() == 0
    levels = shown.locator("h1, h2, h3, h4").evaluate_all("all => all.map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = shown.locator("[id]").evaluate_all("all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    assert shown.locator("#found").get_attribute("aria-live") == "polite"


COLOURS = """() => {
  const probe = document.createElement("p");
  document.body.append(probe);
  const found = {};
  for (const name of ["ink", "soft", "link", "right", "wrong", "warn", "page", "card", "warn-back",
                      "chosen", "s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"]) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(index: Path, load: Open, scheme: str) -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    page, _ = load(index.as_uri(), color_scheme=scheme)
    colours = page.evaluate(COLOURS)
    assert (luminance(colours["page"]) > 0.5) == (scheme == "light")
    for ground in ("page", "card", "chosen"):
        for text in ("ink", "soft", "link", "right", "wrong", "warn"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["warn"], colours["warn-back"]) >= 4.5
    assert all(contrast(colours[f"s{n}"], colours["page"]) >= 3 for n in range(8))
    assert len({colours[f"s{n}"] for n in range(8)}) == 8


def test_it_fits_a_telephone_and_a_sheet_of_paper(index: Path, load: Open) -> None:
    page, _ = load(index.as_uri(), viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    first = page.locator("#results tbody th").first
    style = first.evaluate("one => [getComputedStyle(one).position, one.offsetWidth]")
    assert style[0] == "sticky"
    assert style[1] <= 6.5 * 16
    assert not page.locator("[name=type]").is_visible()
    page.locator("#samples summary", has_text="Filters").click()
    pick(page, "type", TYPES[1])
    settle(page, 150)
    expect(page.locator("#samples summary").first).to_have_text("Filters (1 in use)")
    page.locator(".list tbody td").nth(6).click()  # anywhere in a row
    expect(page.locator(".detail h3")).to_be_in_viewport()
    assert page.evaluate("document.querySelector('.detail').getBoundingClientRect().top") < 40
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator(".detail h3")).not_to_be_in_viewport()
    page.locator(".list .current a").click()  # the chosen one once more
    expect(page.locator(".detail h3")).to_be_in_viewport()
    page.emulate_media(media="print")
    assert not page.locator("#samples").is_visible()
    assert page.locator("#results").is_visible()


def test_numbers_line_up(shown: Page) -> None:
    styles = shown.locator("#results td.number").evaluate_all(
        """all => all.map(getComputedStyle).map(
            style => [style.textAlign, style.fontVariantNumeric])"""
    )
    assert set(map(tuple, styles)) == {("right", "tabular-nums")}


def test_motion_is_left_out_where_it_is_not_wanted(index: Path, load: Open) -> None:
    page, _ = load(index.as_uri(), reduced_motion="no-preference")
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert page.evaluate(behaviour) == "smooth"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(behaviour) == "auto"


def bare_page(browser: Browser, folder: Path, changes: dict[str, Any]) -> tuple[Page, Seen]:
    """A report of nothing but what `changes` says."""
    write_page(folder)
    (folder / "data").mkdir()
    empty: dict[str, list[Any]] = {
        name: [] for name in ("tables", "five", "agreement", "cost", "parts", "run_order")
    }
    bare = page_world.calls()["report"] | empty
    report = bare | {"curves": {}, "fingerprints": {}, "seconds": {}} | changes
    (folder / "data" / "report.js").write_text(f'redvillm("report", {escaped(report)});')
    page = browser.new_page()
    seen = watch(page)
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector("main h2")
    return page, seen


def test_a_report_without_evaluations_still_opens(browser: Browser, tmp_path: Path) -> None:
    page, seen = bare_page(browser, tmp_path, {})
    expect(page.locator("main h2")).to_have_text(["Results"])
    assert seen.problems == []
    page.close()


def test_many_runs_and_many_differences_are_cut_and_folded(
    browser: Browser, tmp_path: Path
) -> None:
    table = page_world.calls()["report"]["tables"][0]
    names = [f"run {at}" for at in range(10)]
    rows = [table["rows"][0] | {"name": name} for name in names]
    first = {k: v for k, v in table["differences"][0].items() if k != "excludes_zero"}
    ends = [(1.0, 2.0), (-2.0, -1.0), (-1.0, 1.0), (None, None)]
    differences = [
        first
        | {"a": f"run {at}", "type": "all", "low": low, "high": high}
        | dict.fromkeys(("score_low", "score_high"))
        for at, (low, high) in enumerate(ends)
    ]
    differences += [first | {"type": f"t{at}"} for at in range(9)]
    changes = {"tables": [table | {"rows": rows, "differences": differences}]}
    page, seen = bare_page(browser, tmp_path, changes)
    assert "(8 of 10 runs)" in page.locator("figcaption").inner_text()
    assert page.locator(".legend li").all_inner_texts() == names[:8]
    expect(page.locator("rect.series")).to_have_count(8 * (1 + len(TYPES)))
    assert len(cells(page, "accuracy in percent")) == 11  # the table has them all
    of_all, of_types = (
        page.locator("#differences").locator(f"table:{how}(details *)") for how in ("not", "is")
    )
    last = "table => [...table.tBodies[0].rows].map((row) => row.cells[6].textContent)"
    assert of_all.evaluate(last) == ["yes", "yes", "no", DASH]
    assert len(of_types.evaluate(last)) == 13
    assert not of_types.is_visible()
    assert seen.problems == []
    page.close()


@pytest.mark.parametrize("single_file", [False, True])
def test_a_built_report_shows_its_own_numbers(
    load: Open, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, single_file: bool
) -> None:
    world = tmp_path_factory.getbasetemp() / "report-world"
    world.mkdir(exist_ok=True)
    runs, parts, stores = make_report_world(world, SCALES["tiny"])
    report = build_report(
        *(runs, parts, tmp_path),
        **{"stores": stores, "title": "t", "min_coverage": 0.9, "single_file": single_file},
        compare=[(runs[1].name, runs[0].name)],
    )
    path = tmp_path / ("report.html" if single_file else "report/index.html")
    page, seen = load(path.as_uri())
    table = report["tables"][0]
    rows = cells(page, "msrvtt-qa, split test: accuracy in percent")[1:]
    for row, told in zip(rows, table["rows"], strict=True):
        score = told["all"]
        text = "{accuracy:.1f} [{low:.1f}, {high:.1f}]".format(**score)
        assert row[0] == told["name"]
        assert row[2].startswith(text)
    pick(page, "outcome", "wrong")
    pick(page, "run", runs[1].name)
    folder = eval_folder(runs[1].seeds[0], parts[0].dataset, parts[0].split)
    (verdicts,) = folder.glob("judges/*/verdicts.jsonl")
    lines = verdicts.read_text(encoding="utf-8").splitlines()
    settle(page, sum(json.loads(line)["correct"] is False for line in lines))
    pick(page, "part", f"{parts[3].dataset}/{parts[3].split}")
    page.wait_for_selector(".detail dt:text('other wording')")
    expect(page.locator(".frames img")).to_have_count(8)
    assert_clean(seen, path.as_uri() if single_file else path.parent.as_uri())


def test_a_screenshot_is_kept(index: Path, load: Open) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        page, _ = load(index.as_uri(), color_scheme=scheme, viewport={"width": 1280, "height": 900})
        path = ARTIFACTS / f"report-{scheme}.png"
        path.unlink(missing_ok=True)
        page.screenshot(path=path, full_page=True)
        assert path.stat().st_size > 100_000


def test_the_data_files_of_this_test_are_of_the_contract(index: Path) -> None:
    text = (index.parent / "data" / "p0-samples-0.js").read_text(encoding="utf-8")
    assert text.startswith('redvillm("p0-samples-0", [')
    assert not set("<>&") & set(text)
    assert (
        json.loads(text.removeprefix('redvillm("p0-samples-0", ').removesuffix(");\n"))[3][
            "question"
        ]
        == EVIL
    )
