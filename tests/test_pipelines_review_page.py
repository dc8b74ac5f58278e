"""The review page in a real Chromium, by keyboard alone; kills and second tabs lose nothing."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import urlopen

import pytest
from browser import Seen, contrast, watch
from playwright.sync_api import Browser, Page, expect
from review_world import EVIL, World, make_world
from zygote import Zygote

from benchmarks.chromium import chromium
from features.errors import RedVillmError
from pipelines.__main__ import main
from pipelines.translate.checks import Flag
from pipelines.translate.lines import Line, read_lines
from pipelines.translate.review_page import ReviewServer
from pipelines.translate.review_session import SLICE, Session

PROJECT = Path(__file__).resolve().parent.parent
ARTIFACTS = PROJECT / "artifacts"
SPOILT: dict[str, str | None] = {"1/answer": "好。", "4/question": None, "6/answer": EVIL}
PARTS = {"source": "en", "context": "en"}
PARTS |= dict.fromkeys(("target", "edit", "machine"), "zh-Hans")
KILLS = 10
FLAGS = {name: [Flag(name, "length", EVIL)] for name in SPOILT}
Visit = Callable[[str], tuple[Page, Seen]]

expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    pages: list[Page] = []

    def go(address: str) -> tuple[Page, Seen]:
        page = browser.new_page()
        pages.append(page)
        seen = watch(page)
        page.goto(address)
        expect(page.locator("#progress")).to_contain_text("done")
        return page, seen

    yield go
    for page in pages:
        page.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, spoilt=SPOILT)


@contextmanager
def serving(
    lines: list[Line], log: Path, reviewer: str = "Ann", sample: Collection[str] | None = None
) -> Iterator[ReviewServer]:
    """All lines are to be reviewed unless a sample is given."""
    drawn = [line.id for line in lines] if sample is None else sample
    session = Session(lines, FLAGS, log, reviewer)
    session.review_beside(drawn)
    with ReviewServer(session, "out.json", "en-zh") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    session.close()


@contextmanager
def command(world: World, *more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The real command, which is killed in the end."""
    args = [sys.executable, "-m", "pipelines", "review", "serve", str(world.lines), *more]
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            address = next(line for line in process.stdout if line.startswith("http"))
            yield address.strip(), process
        finally:
            process.kill()


def at(page: Page, name: str) -> None:
    """Wait until this line is shown."""
    expect(page.locator("#name")).to_have_text(name)
    expect(page.locator("#line")).not_to_have_attribute("aria-busy", "true")


def opened(visit: Visit, server: ReviewServer, name: str = "0/question") -> Page:
    """The page, once it shows the line at which it begins."""
    page, _ = visit(server.address)
    at(page, name)
    return page


def press(page: Page, key: str, then: str) -> None:
    """Press a key and wait for the line that is shown then."""
    page.keyboard.press(key)
    at(page, then)


def rows(log: Path) -> list[tuple[str, str]]:
    return [
        (row["id"], row["status"])
        for row in map(json.loads, log.read_bytes().split(b"\n")[:-1])  # a torn one is none
    ]


def test_by_keyboard_alone_and_a_kill_loses_nothing(world: World, visit: Visit) -> None:
    log = Path(f"{world.out}.decisions.jsonl")
    with command(world) as (address, process):
        page, seen = visit(address)
        expect(page.locator("#who-name")).to_be_focused()  # asked once
        page.keyboard.type("Ann a\n")
        at(page, "0/question")
        press(page, "a", "0/answer")
        page.keyboard.press("e")
        expect(page.locator("#edit")).to_be_focused()
        page.keyboard.type("aer")  # no commands here
        page.keyboard.press("Escape")
        expect(page.locator("#edit")).to_be_hidden()
        page.keyboard.press("e")
        page.keyboard.press("Control+A")
        page.keyboard.type("好")
        page.keyboard.press("Enter")
        page.keyboard.type("answer?")
        page.keyboard.press("Control+Enter")
        at(page, "1/question")
        press(page, "r", "1/answer")
        expect(page.locator("#flags li")).to_contain_text(["length: got"])
        expect(page.locator("#progress")).to_have_text("To review: 3 of 20 done; line 4 of 20")
        press(page, "u", "1/question")
        expect(page.locator("#progress")).to_have_text("To review: 2 of 20 done; line 3 of 20")
        press(page, "j", "1/answer")
        press(page, "k", "1/question")
        press(page, "a", "1/answer")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert seen.problems == []
        page.keyboard.press("a")
        expect(page.locator("#problem")).to_contain_text("Not done: the server does not answer")
    told = [("0/question", "accepted"), ("0/answer", "edited"), ("1/question", "rejected")]
    assert rows(log) == [*told, ("1/question", "machine"), ("1/question", "accepted")]
    log.write_bytes(log.read_bytes() + b'{"id": "torn')
    with command(world, "--sample", "0") as (address, _):
        page, seen = visit(address)
        expect(page.locator("#who-name")).to_have_value("Ann a")  # asked again: it may be another
        page.keyboard.press("Enter")
        at(page, "1/answer")  # where it stopped
        expect(page.locator("#progress")).to_have_text("To review: 0 of 3 done; line 1 of 3")
        expect(page.locator("#reviewer")).to_have_text("Ann a")
        page.keyboard.press("f")
        expect(page.locator("#progress")).to_have_text("All lines: 3 of 20 done; line 4 of 20")
        page.keyboard.press("f")
        expect(page.locator("#progress")).to_have_text("To review: 0 of 3 done; line 1 of 3")
        press(page, "j", "4/question")
        page.keyboard.press("a")
        expect(page.locator("#problem")).to_contain_text("accepted, but without a text")
        press(page, "r", "6/answer")
        page.keyboard.press("f")
        expect(page.locator("#progress")).to_have_text("All lines: 4 of 20 done; line 14 of 20")
        at(page, "6/answer")
        page.keyboard.press("?")
        expect(page.locator("#help")).to_be_visible()
        page.keyboard.press("a")  # of no effect under it
        page.keyboard.press("Escape")
        expect(page.locator("#help")).to_be_hidden()
    assert main(["review", "import", str(world.lines), str(log)]) == 0
    lines = {line.id: line for line in read_lines(world.lines)}
    assert {name: line.status for name, line in lines.items() if line.reviewer} == {
        **{"0/question": "accepted", "0/answer": "edited", "1/question": "accepted"},
        "4/question": "rejected",
    }
    assert lines["0/answer"].target == "好\nanswer?"
    assert {line.reviewer for line in lines.values()} == {"", "Ann a"}
    before = world.lines.read_bytes()
    assert main(["review", "import", str(world.lines), str(log)]) == 0
    assert world.lines.read_bytes() == before


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    started = Zygote("review_zygote.py", PYTHONPATH=str(PROJECT))
    yield started
    started.close()


def test_what_was_answered_is_kept_whenever_the_server_is_killed(
    tmp_path: Path, zygote: Zygote
) -> None:
    world, log, chance = make_world(tmp_path, rows=400), tmp_path / "log.jsonl", random.Random(8)
    lines, kept = read_lines(world.lines), []
    for kill in range(KILLS):
        told = tmp_path / f"address-{kill}"
        order = {"lines": str(world.lines), "log": str(log), "address": str(told)}
        pid = zygote.start(order)
        wait_until(told.exists)
        address = urlsplit(told.read_text(encoding="utf-8"))
        timer = threading.Timer(0.01 + 0.05 * chance.random(), os.kill, (pid, signal.SIGKILL))
        timer.start()
        while answer(address, lines[len(kept)]):
            kept.append(lines[len(kept)].id)
        timer.join()
        assert zygote.wait() == -signal.SIGKILL
        there = [name for name, _ in rows(log)]
        assert there[: len(kept)] == kept
        assert len(there) - len(kept) <= 1  # on the disk, and killed before it could say so
        kept = there
    assert KILLS < len(kept) < len(lines)
    assert main(["review", "import", str(world.lines), str(log)]) == 0
    reviewed = {line.id for line in read_lines(world.lines) if line.status == "rejected"}
    assert reviewed == set(kept)


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def answer(address: SplitResult, line: Line) -> bool:
    """Whether the server took a decision and said so."""
    asked = {"id": line.id, "status": "rejected", "target": "", "reviewer": "Ann", "seen": ""}
    try:
        connection = http.client.HTTPConnection(str(address.hostname), address.port)
        connection.request("POST", f"{address.path}decide", json.dumps(asked))
        reply = connection.getresponse()
        return reply.status == 200 and json.loads(reply.read())["line"]["id"] == line.id
    except (OSError, http.client.HTTPException, ValueError):
        return False


def test_texts_are_texts_in_their_language(world: World, visit: Visit, tmp_path: Path) -> None:
    lines = [Line("0/answer", 0, "answer", EVIL, EVIL, EVIL, "edited", machine=EVIL, reviewer=EVIL)]
    flags = {"0/answer": [Flag("0/answer", "length", EVIL)]}
    session = Session(lines, flags, tmp_path / "log.jsonl", EVIL)
    with ReviewServer(session, EVIL, "en-zh") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        page, seen = visit(server.address)
        at(page, "0/answer")
        for part in ("source", "context", "target", "machine", "reviewer"):
            expect(page.locator(f"#{part}")).to_have_text(EVIL)
        expect(page.locator("#flags li")).to_have_text([f"length: {EVIL}"])
        expect(page.locator("h1")).to_have_text(f"Review of {EVIL}")
        languages = {part: page.locator(f"#{part}").get_attribute("lang") for part in PARTS}
        assert languages == PARTS
        assert "PingFang SC" in page.locator("#target").evaluate(
            "e => getComputedStyle(e).fontFamily"
        )
        assert page.locator("main img").count() == 0
        assert (seen.dialogs, seen.problems) == ([], [])
        assert all(url.startswith((server.address, "data:")) for url in seen.requests)
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / "review.png")
        for part in ("#source", "#flags li", "#progress"):
            colours = page.locator(part).first.evaluate(
                """e => { const own = getComputedStyle(e); let back = e;
                while (getComputedStyle(back).backgroundColor === "rgba(0, 0, 0, 0)") {
                  if (!back.parentElement) return [own.color, "rgb(255, 255, 255)"];
                  back = back.parentElement;
                }
                return [own.color, getComputedStyle(back).backgroundColor]; }"""
            )
            assert contrast(*colours) >= 4.5
        server.shutdown()
    session.close()


def test_two_tabs_lose_no_decision(world: World, visit: Visit, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with serving(read_lines(world.lines), log) as server:
        one, two = opened(visit, server), opened(visit, server)
        press(one, "a", "0/answer")
        two.keyboard.press("r")
        expect(two.locator("#problem")).to_contain_text("Ann decided otherwise meanwhile")
        expect(two.locator("#status")).to_have_text("accepted by Ann")
        assert rows(log) == [("0/question", "accepted")]
        press(two, "r", "0/answer")  # now that it is known
        press(one, "a", "1/question")
        expect(one.locator("#progress")).to_contain_text("2 of 20 done")
    decisions = [("0/question", "accepted"), ("0/question", "rejected"), ("0/answer", "accepted")]
    assert rows(log) == decisions
    with serving(read_lines(world.lines), log) as server:
        assert [line.status for line in server.session.lines[:2]] == ["rejected", "accepted"]


def begin_edit(page: Page, text: str) -> None:
    page.keyboard.press("e")
    page.keyboard.press("Control+A")
    page.keyboard.type(text)


def test_what_is_typed_is_never_lost(world: World, visit: Visit, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with serving(read_lines(world.lines), log) as server:
        page = opened(visit, server)
        begin_edit(page, "typed")
        for key in ("j", "k", "f", "r", "u", "e"):
            page.locator(f"[data-key={key}]").click()
            expect(page.locator("#problem")).to_contain_text("Ctrl+Enter saves, Esc gives up")
        page.locator("#rename").click()
        page.locator("#who-name").fill("Bo")
        page.keyboard.press("Enter")
        expect(page.locator("#reviewer")).to_have_text("Bo")
        expect(page.locator("#edit")).to_be_focused()
        expect(page.locator("#edit")).to_have_value("typed")
        page.locator("#edit").dispatch_event(
            "keydown", {"key": "Escape", "keyCode": 229}
        )  # of an input method
        expect(page.locator("#edit")).to_be_visible()
        left = "() => !window.dispatchEvent(new Event('beforeunload', { cancelable: true }))"
        assert page.evaluate(left)
        assert rows(log) == []
        page.locator("[data-key=a]").click()
        at(page, "0/answer")
        assert not page.evaluate(left)
        begin_edit(page, "more")
        page.locator("#save").click()
        at(page, "1/question")
        expect(page.locator("#save")).to_be_hidden()
        page.keyboard.press("e")
        page.locator("[data-key=j]").click()  # nothing was typed
        at(page, "1/answer")
        kept = [(line.target, line.status, line.reviewer) for line in server.session.lines[:2]]
    assert kept == [("typed", "edited", "Bo"), ("more", "edited", "Bo")]


def test_undo_gives_a_decision_back_to_whoever_made_it(
    world: World, visit: Visit, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    with serving(read_lines(world.lines), log) as server:
        first = opened(visit, server)
        first.keyboard.press("u")  # nothing to undo
        expect(first.locator("#problem")).to_contain_text("nothing was decided on this page")
        press(first, "a", "0/answer")
        ours = server.session.lines[0]
    with serving(read_lines(world.lines), log, "Bo") as server:
        page = opened(visit, server, "0/answer")
        press(page, "k", "0/question")
        page.keyboard.press("u")  # nor is Ann's decision
        press(page, "r", "0/answer")
        assert server.session.lines[0].reviewer == "Bo"
        press(page, "u", "0/question")
        expect(page.locator("#status")).to_have_text("accepted by Ann")
        assert server.session.lines[0] == ours
        press(page, "a", "0/answer")  # accepted already: not said again
        assert len(rows(log)) == 3
        invented = {"id": "0/answer", "status": "rejected", "reviewer": "Ann", "seen": ""}
        invented |= {"target": "", "restores": "2026-05-01T10:00:00.000000+00:00"}
        with pytest.raises(RedVillmError, match="no decision that was undone"):
            server.session.decide(invented)
    session = Session(read_lines(world.lines), FLAGS, log, "")
    session.close()
    assert session.lines[0] == ours


def test_the_next_line_is_one_that_nobody_has_decided(
    world: World, visit: Visit, tmp_path: Path
) -> None:
    with serving(read_lines(world.lines), tmp_path / "log.jsonl") as server:
        one, two = opened(visit, server), opened(visit, server)
        press(one, "a", "0/answer")
        press(one, "a", "1/question")
        two.reload()
        at(two, "1/question")  # where the review is, and not where the server began
        press(one, "k", "0/answer")
        press(one, "r", "1/question")
        press(one, "j", "1/answer")
        press(one, "r", "2/question")
        press(two, "k", "0/answer")
        part = server.session.part(False, near=19, due=1)
        assert part["at"] == 19
        last = server.session.lines[19]
        asked = {"id": last.id, "status": "rejected", "target": "", "reviewer": "A", "seen": ""}
        server.session.decide(asked)
        assert server.session.part(False, near=19, due=1)["at"] == 2


def test_the_review_set_comes_first_and_its_end_is_said(
    world: World, visit: Visit, tmp_path: Path
) -> None:
    log, sample = tmp_path / "log.jsonl", ["0/answer", "8/question"]
    with serving(read_lines(world.lines), log, sample=sample) as server:
        page = opened(visit, server, "0/answer")
        toggle, progress, done = (
            page.locator(part) for part in ("[data-key=f]", "#progress", "#done")
        )
        expect(toggle).to_have_text("To review f")
        expect(toggle).to_have_attribute("aria-pressed", "true")
        expect(progress).to_have_text("To review: 0 of 5 done; line 1 of 5")
        press(page, "j", "1/answer")
        for name in ("4/question", "6/answer", "8/question"):
            press(page, "r", name)
        expect(done).to_be_empty()
        press(page, "r", "0/answer")  # the one that was passed over
        press(page, "a", "0/answer")  # it stays, and says so
        expect(page.locator("#status")).to_have_text("accepted by Ann")
        expect(done).to_have_text(
            "Done: nothing is left of the 5 lines to review. f shows all lines."
        )
        expect(progress).to_have_text("To review: 5 of 5 done; line 1 of 5")
        press(page, "u", "0/answer")
        expect(done).to_be_empty()
        press(page, "r", "0/answer")
        expect(done).to_contain_text("Done")
        press(page, "r", "1/answer")  # a second look goes on from line to line
        for name in ("4/question", "6/answer", "8/question", "8/question"):
            press(page, "j", name)
        page.keyboard.press("f")
        expect(progress).to_have_text("All lines: 5 of 20 done; line 17 of 20")
        expect(toggle).to_have_attribute("aria-pressed", "false")
        expect(done).to_be_empty()
        at(page, "8/question")
        press(page, "j", "8/answer")
        press(page, "a", "9/question")  # beside the sample
        page.keyboard.press("f")
        expect(progress).to_have_text("To review: 5 of 5 done; line 5 of 5")
        page.reload()
        expect(done).to_contain_text("nothing is left of the 5 lines")
        assert server.session.part(False)["progress"]["all"] == {"decided": 6, "total": 20}
    assert [name for name, _ in rows(log)][:5] == [
        *("1/answer", "4/question", "6/answer", "8/question", "0/answer")
    ]


def test_the_page_and_an_export_have_the_same_lines_to_review(world: World, tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    with command(world, "--sample", "5", "--seed", "2") as (address, _):
        with urlopen(f"{address}lines?at=0") as reply:
            part = json.loads(reply.read())
        assert main(["review", "export", str(world.lines), str(path)]) == 0
    names = [json.loads(row)["id"] for row in path.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in part["lines"]] == names
    assert len(names) == len(SPOILT) + 5
    assert part["progress"]["review"] == {"decided": 0, "total": 8}


def test_where_nothing_is_to_be_reviewed_the_page_says_so(
    world: World, visit: Visit, tmp_path: Path
) -> None:
    session = Session(read_lines(world.lines), {}, tmp_path / "log.jsonl", "Ann")
    with closing(session), ReviewServer(session, "out.json", "en-zh") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        page = opened(visit, server, "")
        expect(page.locator("#done")).to_have_text(
            "No line has a flag, and no sample was drawn. f shows all lines."
        )
        expect(page.locator("#progress")).to_have_text("To review: 0 of 0 done; line none")
        press(page, "a", "")
        press(page, "f", "0/question")
        for line in session.lines:
            asked = {"id": line.id, "status": "rejected", "target": "", "reviewer": "A", "seen": ""}
            session.decide(asked)
        page.reload()
        at(page, "")
        press(page, "f", "0/question")
        expect(page.locator("#done")).to_have_text("All lines are reviewed.")
        server.shutdown()


def test_only_one_process_has_a_files_decisions(world: World, tmp_path: Path) -> None:
    lines, log = read_lines(world.lines), tmp_path / "log.jsonl"
    with serving(lines, log), pytest.raises(RedVillmError, match="another process reviews"):
        Session(lines, {}, log, "")


def test_a_port_that_is_taken_is_said(world: World, tmp_path: Path) -> None:
    lines, taken = read_lines(world.lines), "cannot listen.*port [0-9]+"
    with (
        serving(lines, tmp_path / "log.jsonl") as server,
        pytest.raises(RedVillmError, match=taken),
    ):
        ReviewServer(server.session, "out.json", "en-zh", server.server_port)


def request(
    server: ReviewServer, method: str, path: str, body: str | None = None, host: str = ""
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request(method, path, body, {"Host": host} if host else {})
    return connection.getresponse()


def test_without_the_token_or_under_another_name_nothing_is_told(
    world: World, tmp_path: Path
) -> None:
    with serving(read_lines(world.lines), tmp_path / "log.jsonl") as server:
        ours, port = urlsplit(server.address).path, server.server_port
        for path in (
            "/",
            "/lines",
            "/x/lines",
            f"{ours[:-2]}/lines",
            ours[:-1],
            "//",
            "/%ff/",
            "*",
        ):
            for method, body in (("GET", None), ("POST", "{}")):
                assert request(server, method, path, body).status == 403
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
            assert request(server, "GET", f"{ours}lines", host=host).status == 403
        assert request(server, "GET", f"{ours}lines", host=f"localhost:{port}").status == 200
        found = request(server, "GET", ours)
        policy = found.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert request(server, "GET", f"{ours}../../etc/passwd").status == 404
        assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "body",
    [
        *("", "[", "[]", "{}", '{"id": "0/question", "status": "accepted"}'),
        '{"id": "x", "status": "accepted", "reviewer": "A", "seen": "", "target": ""}',
        '{"id": "0/question", "status": "good", "reviewer": "A", "seen": "", "target": ""}',
        '{"id": "0/question", "status": "edited", "reviewer": " ", "seen": "", "target": "a"}',
        '{"id": "0/question", "status": "edited", "reviewer": "A", "seen": "", "target": ""}',
    ],
)
def test_what_is_no_decision_is_refused_and_not_kept(
    world: World, tmp_path: Path, body: str
) -> None:
    with serving(read_lines(world.lines), tmp_path / "log.jsonl") as server:
        path = f"{urlsplit(server.address).path}decide"
        assert request(server, "POST", path, body).status == 400
        assert (tmp_path / "log.jsonl").read_bytes() == b""


def test_a_disk_that_is_full_is_said_and_leaves_no_half_line(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    log = tmp_path / "log.jsonl"
    session = Session(read_lines(world.lines), FLAGS, log, "Ann")
    asked = {"id": "0/question", "status": "rejected", "target": "", "reviewer": "A", "seen": ""}
    session.decide(asked)
    kept = log.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RedVillmError, match=r"cannot keep.*No space left"):
        session.decide(asked | {"id": "0/answer"})
    session.close()
    assert log.read_bytes() == kept
    assert session.lines[1].status == "machine"


def test_a_hundred_thousand_lines_come_in_slices(visit: Visit, tmp_path: Path) -> None:
    count = 100_000
    about = (("answer", f"s{n}", "q", f"译{n}", "machine") for n in range(count))
    lines = [Line(f"{n}/answer", n, *rest) for n, rest in enumerate(about)]
    with serving(lines, tmp_path / "log.jsonl") as server:
        page, seen = visit(server.address)
        at(page, "0/answer")
        for number in range(1, 4):
            page.keyboard.press("a")
            at(page, f"{number}/answer")
        expect(page.locator("#progress")).to_have_text(
            "To review: 3 of 100,000 done; line 4 of 100,000"
        )
        assert len([url for url in seen.requests if "/lines?" in url]) == 1
        part = server.session.part(False, at=99_999)
        assert (part["at"], len(part["lines"])) == (99_999, SLICE)
