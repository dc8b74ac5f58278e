"""Two models side by side: what is drawn, what is shown of it, and what is counted."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import watch
from judged_runs import OFFLINE, TEST, answer_rows, exactly, save_judged, scored
from PIL import Image
from playwright.sync_api import Browser

from benchmarks.chromium import chromium
from eval.folders import eval_folder
from eval.judges.base import Verdict
from eval.report.study.comparison import draw_samples, write_comparison_page
from features.errors import RedVillmError
from features.plan import extend_plan, source_video
from features.spec import FeatureSpec
from features.store import FeatureStore, VideoRow, create_store, write_shard

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ARTIFACTS = Path(__file__).resolve().parent.parent / "artifacts"
NUM = 60


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def answers(wrong_every: int, lost: tuple[int, ...] = (), text: str = "blue") -> list[str | None]:
    """Of 60 questions, in turn spatial and temporal; `red` is right."""
    return [None if at in lost else text if at % wrong_every == 0 else "red" for at in range(NUM)]


def save(root: Path, name: str, preds: list[str | None], judge: Any = exactly) -> tuple[str, Path]:
    run = save_judged(root / name, answer_rows(preds), judges=[(OFFLINE, judge)])
    return name, eval_folder(run, TEST.dataset, TEST.split)


def make_store(root: Path) -> FeatureStore:
    """Eight frames of each video but v1, whose strip is missing, and v2, which is not in it."""
    path = root / "store"
    spec = FeatureSpec("checkpoint", "0" * 64, 32, "crop-bicubic", 2)
    create_store(path, spec)
    ids = [f"v{at}" for at in range(NUM // 2) if at != 2]
    plan = extend_plan(path, [source_video(name, None) for name in ids], 128, {})
    ones = np.ones((2, 4), np.float32)
    rows = []
    for planned in plan.shards()[0]:
        strip = () if planned.video_id == "v1" else tuple(map(jpeg, range(8)))
        rows.append(VideoRow(planned.video_id, "ok", "", ones, ones, thumbs=strip))
    write_shard(path, spec, plan, 0, rows)
    return FeatureStore(path)


def jpeg(number: int) -> bytes:
    frame = np.full((64, 64, 3), 30, np.uint8)
    frame[16:48, 4 + 6 * number : 18 + 6 * number] = (200, 60, 40)
    target = io.BytesIO()
    Image.fromarray(frame).save(target, "JPEG")
    return target.getvalue()


def shown_ids(page: Path) -> list[str]:
    return re.findall(r"question (q\d+), video", page.read_text(encoding="utf-8"))


def write(models: list[tuple[str, Path]], out: Path, **options: Any) -> Path:
    given = {"store": None, "videos": None} | options
    return write_comparison_page(models, OFFLINE.slug, out=out, **given)


def test_the_draw_is_numpys_own_over_sorted_ids_whatever_their_order() -> None:
    names = [f"q{at:03d}" for at in range(50)]
    chosen = np.random.default_rng(7).choice(50, 12, replace=False)
    wanted = sorted(names[at] for at in chosen)
    assert draw_samples(names, 12, 7) == wanted
    assert draw_samples(names[::-1], 12, 7) == wanted
    assert draw_samples(names, 12, 8) != wanted
    assert draw_samples(names[:5], 12, 7) == names[:5]
    often = [name for seed in range(400) for name in draw_samples(names, 12, seed)]
    assert all(50 < often.count(name) < 150 for name in names)  # 96 wanted


def test_who_was_right_decides_nothing_about_what_is_shown(tmp_path: Path) -> None:
    pages = []
    for number, (first, second) in enumerate([(2, 3), (7, 1), (61, 61)]):
        root = tmp_path / str(number)
        models = [save(root, "a", answers(first)), save(root, "b", answers(second))]
        pages.append(shown_ids(write(models, root / "page.html")))
    assert pages[0] == pages[1] == pages[2]
    assert len(pages[0]) == 12
    assert pages[0] == sorted(pages[0])
    assert all(int(name[1:]) % 2 for name in pages[0])  # temporal ones
    again = tmp_path / "0"
    models = [(name, eval_folder(again / name, TEST.dataset, TEST.split)) for name in ("a", "b")]
    assert shown_ids(write(models, again / "other.html", seed=1)) != pages[0]


def test_types_that_are_numbers_go_by_their_names_and_files_by_their_ids(tmp_path: Path) -> None:
    rows = [row | {"type": str(at % 3)} for at, row in enumerate(answer_rows(answers(2)))]
    names = ["motion", "spatial relation", "temporal relation"]
    runs = [save_judged(tmp_path / name, rows, type_names=names) for name in ("a", "b")]
    models = [(run.name, eval_folder(run, TEST.dataset, TEST.split)) for run in runs]
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "v1.mkv").write_bytes(b"a film")
    page = write(models, tmp_path / "page.html", videos=videos, draw=NUM)
    assert shown_ids(page) == [f"q{at:03d}" for at in range(2, NUM, 3)]
    text = page.read_text(encoding="utf-8")
    assert "temporal relation" in text
    assert "data:video/" in text


def test_only_questions_that_both_answered_are_drawn_judged_or_not(tmp_path: Path) -> None:
    def silent(number: int, row: dict[str, Any], aspect: Any) -> Verdict:
        if number == 9:
            return Verdict(row["sample_id"], aspect, "api_failure", reason="no reply")
        return exactly(number, row, aspect)

    models = [
        save(tmp_path, "a", answers(2, lost=(1, 3)), silent),
        save(tmp_path, "b", answers(3, lost=(3, 5))),
    ]
    page = write(models, tmp_path / "page.html", draw=100)
    temporal = [at for at in range(NUM) if at % 2 and at not in (1, 3, 5)]
    assert shown_ids(page) == [f"q{at:03d}" for at in temporal]
    text = page.read_text(encoding="utf-8")
    assert "27 of the 27 temporal questions" in text
    assert text.count("not judged</span>") == 1


def test_totals_are_those_of_all_questions(tmp_path: Path, browser: Browser) -> None:
    first, second = answers(2, lost=(1,)), answers(3)
    models = [save(tmp_path, "a", first), save(tmp_path, "b", second)]
    page = browser.new_page()
    page.goto(write(models, tmp_path / "page.html", draw=2).as_uri())
    rows = page.locator("#totals tbody tr").evaluate_all(
        "all => all.map((row) => [...row.cells].map((cell) => cell.firstChild.textContent))"
    )
    for kind, row in zip(("spatial", "temporal", "all questions"), rows, strict=True):
        some = [
            (a == "red", b == "red")
            for at, (a, b) in enumerate(zip(first, second, strict=True))
            if kind == "all questions" or ("spatial", "temporal")[at % 2] == kind
            if a is not None
        ]
        counts = [some.count(one) for one in ((True, True), (True, False), (False, True))]
        asked = NUM if kind == "all questions" else NUM // 2
        wanted = [asked, len(some), *counts, some.count((False, False))]
        assert row == [kind, *map(str, wanted)]
    page.close()


def test_the_page_shows_frames_clips_answers_and_verdicts_and_runs_nothing(
    tmp_path: Path, browser: Browser, clip: Callable[..., Path]
) -> None:
    store, videos = make_store(tmp_path), tmp_path / "videos"
    for at in range(NUM // 2):
        clip(videos / f"v{at}.mp4", seed=at)
    (videos / "v3.mp4").unlink()
    (videos / "v4.mp4").write_bytes(bytes(200_000))  # too large to be put in
    models = [save(tmp_path, f"a {EVIL}", answers(3, text=EVIL)), save(tmp_path, "b", answers(2))]
    out = write(models, tmp_path / "page.html", draw=30, store=store, videos=videos)
    page = browser.new_page(viewport={"width": 400, "height": 800})
    seen = watch(page)
    page.goto(out.as_uri())
    assert seen.problems == seen.dialogs == []
    assert {url.split(":")[0] for url in seen.requests} <= {"file", "data"}
    assert [url for url in seen.requests if url.startswith("file")] == [out.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    articles = page.locator("article")
    assert articles.count() == 30
    for at, article in enumerate(articles.all()):  # question 2 at + 1, of video at
        assert article.locator(".frames img").count() == (0 if at in (1, 2) else 8)
        source = article.locator("video").get_attribute("src") if at != 3 else None
        if at == 4:
            assert source == "videos/v4.mp4"
        elif at != 3:
            assert source is not None
            data = source.removeprefix("data:video/mp4;base64,")
            assert base64.b64decode(data) == (videos / f"v{at}.mp4").read_bytes()
        number = 2 * at + 1
        said = article.locator(".answer .pred").all_inner_texts()
        assert said == [EVIL if number % 3 == 0 else "red", "red"]
        words = article.locator(".answer p:last-child").all_inner_texts()
        assert words == ["✗ wrong" if number % 3 == 0 else "✓ right", "✓ right"]
    assert page.locator("h4").first.inner_text() == f"a {EVIL}"
    assert "its first seed" in page.locator("header").inner_text()
    assert OFFLINE.label in page.locator("header").inner_text()
    assert page.locator("script").count() == 0
    sizes = page.locator("img").evaluate_all("all => all.map((one) => one.naturalWidth)")
    assert set(sizes) == {64}
    video = page.locator("video").first
    video.scroll_into_view_if_needed()
    video.evaluate("one => one.play()")
    page.wait_for_function("document.querySelector('video').currentTime > 0")
    assert seen.problems == []
    page.close()
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(out.as_uri())
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / "comparison.png", full_page=True)
    page.close()


def test_an_id_leads_to_no_file_outside_the_folder(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    rows = answer_rows(answers(2))
    for row in rows:
        row["video_id"] = "../secret"
    models = []
    for name in ("a", "b"):
        run = save_judged(tmp_path / name, rows)
        models.append((name, eval_folder(run, TEST.dataset, TEST.split)))
    text = write(models, tmp_path / "page.html", videos=videos).read_text(encoding="utf-8")
    assert "<video" not in text
    assert base64.b64encode(b"secret").decode() not in text


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one = save(tmp_path, "a", answers(2))
    with pytest.raises(RedVillmError, match="of two models"):
        write([one], tmp_path / "page.html")
    other = save_judged(tmp_path / "other", answer_rows(answers(2), prefix="z"))
    with pytest.raises(RedVillmError, match="other questions"):
        write([one, ("o", eval_folder(other, TEST.dataset, TEST.split))], tmp_path / "page.html")
    points = save(tmp_path, "scored", answers(2), scored([3.0] * NUM))
    with pytest.raises(RedVillmError, match="cannot compare scores"):
        write([points, points], tmp_path / "page.html")
    spatial = save_judged(tmp_path / "spatial", answer_rows(answers(2), types=["spatial"]))
    same = ("s", eval_folder(spatial, TEST.dataset, TEST.split))
    with pytest.raises(RedVillmError, match=r"nothing to draw from.*spatial"):
        write([same, same], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
