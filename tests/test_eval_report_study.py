"""The study's page and Markdown, made from a record alone and opened in a real Chromium."""

from __future__ import annotations

import copy
import math
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import Seen, contrast, watch
from playwright.sync_api import Browser, Page
from study_record import (
    CLAIMS,
    COLUMNS,
    DIGEST,
    EVIL,
    MEASURES,
    TABLES,
    WHY_NOT,
    in_words,
    mean,
    study_record,
)

from benchmarks.chromium import chromium
from eval.report.page import PAGE
from eval.report.study import view
from eval.report.study.markdown import write_study_markdown
from eval.report.study.page import TEMPLATES, write_study_page
from eval.report.study.svg import Point, Scale, curve_picture, nice_ticks, strip_picture
from features.errors import RedVillmError

ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"
DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
SYMBOLS = {"holds": "✓", "does not hold": "✗", "undecided": "?"}
MIDDLES = {"holds": "+9.0", "does not hold": f"{MINUS}6.0", "undecided": "+0.4"}
ONLY_TEXT = """() => {
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || one.tagName === "title" || one.closest(".unseen")) continue;
    let ground = one;
    while (ground.parentElement && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)")
      ground = ground.parentElement;
    const style = getComputedStyle(one);
    const colour = one.namespaceURI.endsWith("svg") ? style.fill : style.color;
    found.push([one.textContent.trim(), colour, getComputedStyle(ground).backgroundColor]);
  }
  return found;
}"""
CIRCLES = """all => all.map(
  (one) => [Number(one.getAttribute("cx")), Number(one.getAttribute("cy")), one.textContent])"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study_page(study_record(), tmp_path_factory.mktemp("study") / "new")


@pytest.fixture(scope="module")
def opened(browser: Browser, path: Path) -> Iterator[tuple[Page, Seen]]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    seen = watch(page)
    page.goto(path.as_uri())
    yield page, seen
    page.close()


@pytest.fixture
def page(opened: tuple[Page, Seen], path: Path) -> Iterator[Page]:
    """One page for all tests, which leave nothing behind; it asks for nothing but itself."""
    yield opened[0]
    seen = opened[1]
    assert seen.requests == [path.as_uri()]
    assert seen.problems == seen.dialogs == []


def section(page: Page, table: str) -> Any:
    return page.locator(f"#table-{list(TABLES).index(table) + 1}")


def rows(table: Any) -> list[list[str]]:
    """Texts of a table's rows, without its head."""
    found: list[list[str]] = table.evaluate(
        """table => [...table.querySelectorAll("tbody tr")].map(
            (row) => [...row.cells].map((cell) => cell.innerText.replaceAll("\\u00a0", " ")))"""
    )
    return [[" ".join(cell.split()) for cell in row] for row in found]


def test_every_headline_claim_has_its_verdict_by_word_sign_and_colour(page: Page) -> None:
    found = rows(page.locator(".verdicts"))
    assert len(found) == len(CLAIMS)
    words = page.locator(".verdicts .verdict-word")
    colours = words.evaluate_all("all => all.map((one) => getComputedStyle(one).color)")
    for row, colour, (says, changes, verdicts) in zip(found, colours, CLAIMS, strict=True):
        assert row[0] == changes["table"]
        assert row[1].startswith(" ".join(says.split()))
        assert row[2].startswith(f"{SYMBOLS[verdicts[0]]} {verdicts[0]}")
        assert all(f"{SYMBOLS[other]} {other}" in row[2] for other in verdicts[1:])
        first = next(c for c, (_, _, v) in zip(colours, CLAIMS, strict=True) if v == verdicts)
        assert colour == first
        if changes["table"] == "7":
            assert row[3:] == [DASH, "", DASH, DASH, DASH]
        else:
            assert row[3].startswith(f"{MIDDLES[verdicts[0]]} [")
            decided = "0.0020 Holm 0.0160" if verdicts[0] == "holds" else "0.0020"
            p = "0.4121" if verdicts[0] == "undecided" else decided
            assert row[5:] == [p, "10", "2.2"]
    assert len(set(colours)) == 3
    tally = page.locator("#verdicts > p").first.inner_text()
    assert "Claims of the paper: 7; holds 3, does not hold 1, undecided 3." in tally
    assert "Claims of our own: 1; holds 1, does not hold 0, undecided 0." in tally
    assert rows(page.locator(".verdicts"))[0][3] == "+9.0 [+7.4, +10.6]"


def test_what_was_run_is_said_and_hashes_are_short(page: Page) -> None:
    head = page.locator("header").inner_text()
    assert "12 runs" not in head  # rows of equal settings share a run
    assert "6 runs of mini on 2 independently pretrained bases" in head
    assert "1,200 questions about 300 videos of the test split" in head
    assert "fixed on 2026-11-27" in head
    assert "seed 77001" in head
    assert "offline-em-f1-2" in head
    assert f"mini ({DIGEST[:12]})" in head
    assert DIGEST[:16] not in page.locator("body").inner_text()


def test_what_is_tested_stands_in_words_beside_every_claims_sentence(page: Page) -> None:
    wanted = [in_words({"measure": "temporal"} | changes) for _, changes, _ in CLAIMS]
    for row, text in zip(rows(page.locator(".verdicts")), wanted, strict=True):
        assert row[1].endswith(" ".join(text.split()))
    beside = page.locator(".claim > h3 + p").all_inner_texts()
    assert sorted(beside) == sorted(" ".join(text.split()) for text in wanted)


def test_what_is_missing_or_failed_is_said_at_the_top_and_listed(
    browser: Browser, tmp_path: Path
) -> None:
    record = study_record()
    record |= {"missing": 1200, "failed": [{"cell": "ab" * 8, "error": f"no memory {EVIL}"}]}
    record["claims"][0] |= {"n": 7}
    record["frozen"]["defaults"] = {"TrainConfig": {"lr": 0.125}, "Budget": {"epochs": 3}}
    record["cells"] += [cell | {"split": "val", "cell": "c" * 16} for cell in record["cells"][:1]]
    page = browser.new_page()
    seen = watch(page)
    page.goto(write_study_page(record, tmp_path).as_uri())
    said = "Not the whole study: 1,200 planned runs are missing (not run yet, or failed)."
    assert page.locator(".banner").inner_text().startswith(said)
    assert page.locator(".failed li").all_inner_texts() == [f"{'ab' * 8}: no memory {EVIL}"]
    assert rows(page.locator(".verdicts"))[0][6] == "7 of 10"
    fixed = page.locator(".facts").inner_text()
    assert fixed.endswith("defaults of TrainConfig, Budget, written out in the lock file")
    assert "6 runs of mini on 2" in page.locator("header").inner_text()  # not those on val
    assert seen.problems == []
    page.close()
    text = write_study_markdown(record)
    assert f"**{said}**" in text
    assert f"- {'ab' * 8}: no memory" in text
    assert "| 7 of 10 |" in text


@pytest.mark.parametrize("table", list(TABLES))
def test_our_numbers_stand_for_every_budget_and_reading(page: Page, table: str) -> None:
    names, budgets = TABLES[table][2], ["long", "default"]
    if table in ("data", "learning rate"):
        budgets = ["long"]
    readings = ["A", "B"] if table == "7" else [""]
    found = rows(section(page, table).locator("table").first)
    if len(budgets) > 1:
        heads = [row[0] for row in found if len(row) == 1]
        places = [f"{b} budget{f', reading {r}' if r else ''}" for b in budgets for r in readings]
        assert heads == [f"{places[0]} (verdicts are headed by it)", *places[1:]]
    numbers = iter(row for row in found if len(row) > 1)
    for budget in budgets:
        for _ in readings:
            for at, name in enumerate(names):
                row = next(numbers)
                assert row[0].startswith(name)
                if (table, name) == ("controls", "no video"):
                    assert row[1:] == [DASH, DASH, DASH, "0 of 10"]
                    continue
                values = [mean(at, measure, budget, 1.0) for measure in MEASURES]
                wanted = [f"{v:.1f} [{v - 3:.1f}, {v + 3:.1f}] sd 1.4" for v in values]
                assert row[1:] == [*wanted, "10"]
    assert list(numbers) == []


def test_the_papers_numbers_stand_beside_and_are_called_not_comparable(page: Page) -> None:
    beside = section(page, "4").locator(".published")
    assert "as printed, GPT-3.5; not comparable" in beside.locator("caption").inner_text()
    found = rows(beside.locator("table"))
    assert found[0] == ["LLaVA-7B"]
    assert found[2] == ["with our row: copy", "2.57", "2.64", "3.13", "2.21", "2.41"]
    assert found[4] == ["without our row: shared", "2.51", "2.69", "3.01", "2.11", "2.43"]
    notes = beside.inner_text()
    assert "2.41 here and 2.39 in Table 1" in notes
    assert "no seeds, no intervals" in notes
    for table in ("controls", "data", "learning rate"):
        assert section(page, table).locator(".published").count() == 0
    boxes = (
        section(page, "4")
        .locator(".beside > *")
        .evaluate_all("all => all.map((one) => one.getBoundingClientRect().top)")
    )
    assert abs(boxes[0] - boxes[1]) < 30
    wide = page.locator(".beside .scroll, #verdicts .scroll").evaluate_all(
        "all => all.filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    )
    assert wide == 0  # nothing is cut at 1280 pixels


def test_each_claim_says_what_the_papers_own_numbers_give(page: Page) -> None:
    printed = {
        claim.locator("h3").inner_text(): claim.locator("dd").nth(5).inner_text()
        for claim in page.locator(".claim").all()
    }
    # Typed off Tables 3, 4 and 6: 2.21 - 1.98, 2.34 - 2.11; content is a mean of three.
    copied = (0.17 + 0.12 + 0.51) / 3, (0.20 + 0.06 + 0.33) / 3
    beyond = [0.23 - gap for gap in copied]
    assert printed[CLAIMS[3][0]] == "LLaVA-7B +0.23, Qwen-VL-7B +0.23, as printed"
    signs = [f"{gap:+.2f}".replace("-", MINUS) for gap in beyond]
    assert printed[CLAIMS[4][0]] == f"LLaVA-7B {signs[0]}, Qwen-VL-7B {signs[1]}, as printed"
    assert printed[CLAIMS[6][0]] == "Qwen-VL-7B +0.25, as printed"
    assert next(text for says, text in printed.items() if "fresh one" in says) == DASH


def test_a_claim_of_table_1_has_the_papers_difference_of_the_llm_that_has_both_rows() -> None:
    claim = {"table": "1", "more": "red-villm", "less": "video-chatgpt", "beyond": None}
    found = {m: view.printed_text(claim | {"measure": m}) for m in ("temporal", "consistency")}
    # Typed off Table 1: 2.21 - 1.98 and 2.39 - 2.37.
    assert found == {"temporal": "LLaVA-7B +0.23", "consistency": "LLaVA-7B +0.02"}


def test_missing_numbers_are_dashes_that_say_why(page: Page) -> None:
    titles = page.locator(".none").evaluate_all(
        "all => all.map((one) => [one.textContent, one.title])"
    )
    assert {text for text, _ in titles} == {DASH}
    assert {title for _, title in titles} == {
        WHY_NOT,
        "no finished run has this number",
        "the paper has no such numbers",
        "not measured",
    }
    for word in ("None", "nan", "NaN", "undefined"):
        assert word not in re.split(r"\W+", page.locator("body").inner_text())
    claim = page.locator(".claim", has_text="Fewer spatial tokens").first
    assert WHY_NOT in claim.inner_text()
    assert claim.locator("svg").count() == 0


def test_curves_have_log_axes_bands_and_the_papers_beside(page: Page) -> None:
    charts = section(page, "6").locator(".chart")
    assert charts.count() == 4
    circles = charts.first.locator("circle").evaluate_all(CIRCLES)
    assert len(circles) == 10
    xs = [x for x, _, _ in circles[:5]]
    assert [b - a for a, b in pairwise(xs)] == pytest.approx([(xs[4] - xs[0]) / 4] * 4, abs=0.2)
    steps = [b - a for a, b in pairwise(y for _, y, _ in circles[:5])]
    assert steps == pytest.approx([steps[0]] * 4, abs=0.2)  # nine points a row
    assert steps[0] < 0
    assert circles[0][2] == "fewest, long budget: 50.0 [47.0, 53.0]"
    assert charts.first.locator("path.band").count() == 2
    printed = charts.last.locator("circle").evaluate_all(CIRCLES)
    assert [label for _, _, label in printed] == ["2.09", "2.21", "2.34", "2.29", "2.21"]
    span = printed[4][0] - printed[0][0]
    for x, frames in zip((x for x, _, _ in printed), (50, 75, 100, 150, 200), strict=True):
        assert x - printed[0][0] == pytest.approx(span * math.log2(frames / 50) / 2, abs=0.2)
    assert printed[1][1] == printed[4][1]
    assert "not comparable" in charts.last.inner_text()
    assert section(page, "data").locator(".chart").count() == 3
    ticks = section(page, "data").locator(".chart").first.locator("text").all_text_contents()
    assert [tick for tick in ticks if "/" in tick] == ["1/16", "1/8", "1/4", "1/2"]


def test_rows_and_differences_are_drawn_where_they_are(page: Page) -> None:
    circles = section(page, "3").locator(".chart").first.locator("circle").evaluate_all(CIRCLES)
    values = [
        mean(at, "temporal", budget, 1.0) for at in range(3) for budget in ("long", "default")
    ]
    unit = (circles[-1][0] - circles[0][0]) / (values[-1] - values[0])
    for (x, _, label), value in zip(circles, values, strict=True):
        assert x - circles[0][0] == pytest.approx(unit * (value - values[0]), abs=0.2)
        assert f"{value:.1f} [" in label
    claim = page.locator(".claim", has_text="come close to both").first
    strip = claim.locator(".entry").first.locator("svg")
    dots = strip.locator("circle").evaluate_all(CIRCLES)
    assert dots[0][2] == f"mini, seed 0: {MINUS}1.0"
    assert dots[9][2] == "mini-b, seed 4: +1.8"
    assert len(dots) == 11  # and the mean
    assert len({y for _, y, _ in dots}) == 3
    unit = (dots[4][0] - dots[0][0]) / 2.8
    zero = float(strip.locator(".zero").get_attribute("x1") or "nan")
    assert dots[0][0] - zero == pytest.approx(-unit, abs=0.2)
    margin = strip.locator("rect.margin")
    assert float(margin.get_attribute("x") or "nan") == pytest.approx(zero - 5 * unit, abs=0.3)
    assert float(margin.get_attribute("width") or "nan") == pytest.approx(10 * unit, abs=0.3)
    assert page.locator("rect.margin").count() == 2  # of one claim, at two budgets


def test_hostile_texts_stay_texts(page: Page, path: Path) -> None:
    assert page.locator("script").count() == 0
    assert page.locator("img").count() == 0
    assert page.locator(".claim h3", has_text=EVIL).count() == 1
    assert page.locator("tbody th", has_text=f"random {EVIL}").count() > 1
    assert EVIL in page.locator(".why", has_text="lie near").first.inner_text()
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "onerror=alert(2)>" not in text
    policy = page.locator("meta[http-equiv]").get_attribute("content") or ""
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert page.locator("[style]").count() == 0


def test_the_browser_refuses_what_the_page_has_not(browser: Browser, path: Path) -> None:
    page = browser.new_page()
    seen = watch(page)
    page.goto(path.as_uri())
    colour = page.evaluate(
        """() => {
          const style = document.createElement("style");
          style.textContent = "body { color: rgb(1, 2, 3) !important; }";
          document.head.append(style);
          return getComputedStyle(document.body).color;
        }"""
    )
    assert colour != "rgb(1, 2, 3)"
    address = "http://127.0.0.1:9/"
    tried = page.evaluate(f"fetch('{address}').then(() => 'done', () => 'refused')")
    assert tried == "refused"
    assert seen.requests == [path.as_uri()]
    assert "inline style" in seen.problems[0]
    assert address in seen.problems[-1]
    page.close()


def test_tables_on_validation_videos_are_marked_and_quick_runs_carry_a_banner(
    page: Page, browser: Browser, tmp_path: Path
) -> None:
    assert section(page, "learning rate").locator("h2 .split").inner_text() == "validation videos"
    assert page.locator("h2 .split").count() == 1
    assert page.locator(".banner").count() == 0
    other = browser.new_page()
    seen = watch(other)
    other.goto(write_study_page(study_record("five", quick=True), tmp_path).as_uri())
    assert (
        other.locator(".banner").inner_text() == "Quick run on validation videos: not the result."
    )
    assert "Fixed beforehand\nnothing" in other.locator(".facts").inner_text()
    ours = section(other, "4").locator("table").first
    assert ours.locator("thead th").all_inner_texts()[1:-1] == list(COLUMNS["five"])
    assert rows(ours)[1][4] == "2.50 [2.35, 2.65] sd 0.07"
    assert rows(ours)[1][7] == "2.80 [2.65, 2.95] sd 0.07"
    assert section(other, "4").locator(".panel").all_inner_texts() == list(MEASURES)
    assert rows(other.locator(".verdicts"))[0][3] == "+0.45 [+0.37, +0.53]"
    assert "score, 0 to 5" in section(other, "4").locator("caption").first.inner_text()
    close = other.locator(".claim", has_text="come close to both").first.inner_text()
    assert "close is within 0.05" in close
    assert seen.problems == []
    other.close()


def test_method_and_all_cells_come_last(page: Page) -> None:
    method = page.locator("#method p").all_inner_texts()
    assert method == ["Two-sided exact sign-flip test over pairs.", "A claim holds where p < 0.05."]
    details = page.locator("#cells details")
    assert details.get_attribute("open") is None
    assert details.locator("summary").inner_text() == "24 uses of 6 runs"
    details.locator("summary").click()
    found = rows(details.locator("table"))
    details.locator("summary").click()
    assert len(found) == 24
    assert found[4] == [
        *("3: spatial features", "mini", "0", "long", "test", "8"),
        *("59.0 [56.0, 62.0]", "62.0 [59.0, 65.0]", "65.0 [62.0, 68.0]"),
        *("1196 of 1200", "truncated 4", "750", "31", DASH),
        "features both, lr 0.001, epochs 3, data 1.0, batch_size 16",
        *("0000000100000000", "runs/1/seed-0"),
    ]


def test_everything_has_a_name_and_an_order(page: Page) -> None:
    assert page.locator("table").count() == page.locator("table > caption").count()
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("svg:not([aria-label]):not([aria-hidden])").count() == 0
    levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    ids = page.locator("[id]").evaluate_all("all => all.map((one) => one.id)")
    links = page.locator("a").evaluate_all("all => all.map((one) => one.getAttribute('href'))")
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links} <= set(ids)
    heads = page.locator("h2").evaluate_all("all => all.map((one) => one.textContent)")
    names = [f"Table {name}" if name.isdecimal() else name.capitalize() for name in TABLES]
    assert [head.split(".")[0] for head in heads] == ["Verdicts", *names, "Method", "All cells"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_on_a_telephone_in_the_dark_and_on_paper(
    browser: Browser, path: Path, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme)
    page.goto(path.as_uri())
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    texts = page.evaluate(ONLY_TEXT)
    assert len(texts) > 1000
    grounds = {ground for _, _, ground in texts}
    assert ("rgb(255, 255, 255)" in grounds) == (scheme == "light")
    assert [one for one in texts if contrast(one[1], one[2]) < 4.5] == []
    page.emulate_media(media="print")
    assert [
        one for one in page.evaluate(ONLY_TEXT) if contrast(one[1], "rgb(255,255,255)") < 4.5
    ] == []
    page.set_viewport_size({"width": 720, "height": 1000})  # A4 without its margins
    assert page.evaluate("document.querySelector('#verdicts').scrollWidth") <= 720
    page.close()


def test_markdown_has_the_same_numbers_and_no_markup_of_others(path: Path) -> None:
    text = write_study_markdown(study_record())
    assert text == path.with_name("report.md").read_text(encoding="utf-8")
    assert "<" not in text.replace("p &lt; 0.05", "")
    lines = text.splitlines()
    heads = [line for line in lines if line.startswith("## ")]
    assert [head.split(".")[0] for head in heads] == [
        "## Verdicts",
        *(f"## Table {n}" if n.isdecimal() else f"## {n.capitalize()}" for n in TABLES),
        *("## Method", "## All cells"),
    ]
    assert (
        f"| 4 | {CLAIMS[3][0]} | Tested: copy against shared in temporal. | long budget | "
        "✓ holds | "
        "+9.0 [+7.4, +10.6] | 0.0020 Holm 0.0160 | 10 | 2.2 | LLaVA-7B +0.23, Qwen-VL-7B +0.23 |"
    ) in lines
    assert (f"| no video | default budget |{f' {DASH} |' * 6} 0 of 10 |") in lines
    fewest = ["50.0 [47.0, 53.0]", "53.0 [50.0, 56.0]", "56.0 [53.0, 59.0]"]
    assert f"| fewest (2) | long budget | {' | 1.4 | '.join(fewest)} | 1.4 | 10 |" in lines
    assert "| LLaVA-7B | with | copy | 2.57 | 2.64 | 3.13 | 2.21 | 2.41 |" in lines
    assert f"- long budget, reading A: undecided. {WHY_NOT}".replace("`", "\\`") in lines
    assert sum(line.startswith(("| 3: ", "| 4: ")) for line in lines) == 24
    for table in re.split(r"\n\n", text):
        if table.startswith("|"):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(counts) == 1
    quick = write_study_markdown(study_record(quick=True)).splitlines()
    assert "**Quick run on validation videos: not the result.**" in quick


def test_a_page_is_made_of_the_record_alone(path: Path, tmp_path: Path) -> None:
    record = study_record()
    untouched = copy.deepcopy(record)
    opened: list[Path] = []
    watching = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(args[0], str):
            opened.append(Path(args[0]))

    sys.addaudithook(hook)
    again = write_study_page(record, tmp_path)
    watching = False
    ours = (tmp_path, TEMPLATES, PAGE)
    strange = [file for file in opened if not any(file.is_relative_to(one) for one in ours)]
    assert strange == []
    assert len(opened) >= 4
    assert record == untouched
    assert again.read_bytes() == path.read_bytes()


def test_a_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    record = study_record() | {"schema": 1}
    for make in (lambda: write_study_page(record, tmp_path), lambda: write_study_markdown(record)):
        with pytest.raises(RedVillmError, match="another schema"):
            make()
    assert list(tmp_path.iterdir()) == []


def test_one_pair_and_a_study_of_nothing_are_still_pages(tmp_path: Path, browser: Browser) -> None:
    record = study_record()
    for row in record["tables"][0]["rows"]:
        row["pairs"] = 1
        for score in row["scores"].values():
            score |= {"low": None, "high": None, "sd": None}
    for claim in record["claims"]:
        claim |= {"low": None, "high": None, "p": None}
    record["claims"][0]["why"] = "half a character: \ud800"
    page = browser.new_page()
    page.goto(write_study_page(record, tmp_path / "one").as_uri())
    assert page.locator(".why").first.inner_text() == "half a character: ?"
    found = rows(section(page, "3").locator("table").first)
    assert found[1] == [
        "temporal features",
        f"50.0 sd {DASH}",
        f"53.0 sd {DASH}",
        f"56.0 sd {DASH}",
        "1 of 10",
    ]
    assert section(page, "3").locator(".chart line.interval").count() == 0
    assert rows(page.locator(".verdicts"))[0][3] == "+9.0"
    empty = record | {"tables": [], "claims": [], "cells": []}
    page.goto(write_study_page(empty, tmp_path / "none").as_uri())
    assert page.locator("h2").all_inner_texts() == ["Verdicts", "Method", "All cells"]
    page.close()


def test_axes_end_at_round_numbers_and_hold_all_values() -> None:
    assert nice_ticks(38.0, 71.0) == pytest.approx([30, 40, 50, 60, 70, 80])
    assert nice_ticks(-1.2, 3.9) == pytest.approx([-2, 0, 2, 4])
    assert nice_ticks(2.09, 2.34) == pytest.approx([2.05, 2.1, 2.15, 2.2, 2.25, 2.3, 2.35])
    assert nice_ticks(5.0, 5.0)[0] <= 5 < nice_ticks(5.0, 5.0)[-1]
    assert Scale(2.0, 32.0, 0.0, 100.0, log=True)(8.0) == pytest.approx(50)
    assert Scale(0.0, 10.0, 20.0, 120.0)(2.5) == pytest.approx(45)


def test_pictures_of_nothing_are_empty_and_their_texts_escaped() -> None:
    assert curve_picture("t", "x", []) == strip_picture("t", [("mini", [])], None) == ""
    picture = strip_picture('"><script>', [(EVIL, [Point(1.0, label=EVIL)])], None)
    assert "<script" not in picture
    assert "<img" not in picture
    assert 'aria-label="&#34;&gt;&lt;script&gt;"' in picture


def test_equal_differences_do_not_hide_each_other() -> None:
    points = [Point(value) for value in (4.0, 1.0, 4.0, 9.0, 4.0)]
    picture = strip_picture("t", [("mini", points)], None)
    places = re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', picture)
    assert [x == places[0][0] for x, _ in places] == [True, False, True, False, True]
    heights = [float(y) for _, y in places]
    assert heights[1] == heights[3]
    assert heights[0] == heights[4] != heights[2]  # neighbours lie on either side
    assert heights[0] + heights[2] == 2 * heights[1]


def test_a_screenshot_is_kept(browser: Browser, path: Path) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
        page.goto(path.as_uri())
        target = ARTIFACTS / f"study-{scheme}.png"
        target.unlink(missing_ok=True)
        page.screenshot(path=target, full_page=True)
        assert target.stat().st_size > 100_000
        page.close()
