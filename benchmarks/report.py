"""`make bench-report`: 73,000 judged rows a run, from their folders to a page that answers.

All keys take about 3 minutes on two quiet cores, most of it to make the world once. A page is
interactive when its table of results is shown and the list of all samples has answered a filter:
seconds since the navigation began, in a new headless Chromium that opens the page from the disk.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from benchmarks.chromium import chromium
from benchmarks.command import Benchmark
from benchmarks.report_world import SCALES, ReportScale, make_report_world
from benchmarks.results import Limit, Limits, Measured
from benchmarks.world import scratch_folder
from eval.report.build import build_report

LIMITS: Limits = {
    "report_build_s": Limit(60),
    "page_interactive_s": Limit(3),
    "filter_s": None,
}
_ANSWERS = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const found = () => document.querySelector("#found")?.textContent;
  const until = async (holds) => { while (!holds()) await frame(); };
  await until(() => document.querySelector("#results td") && found());
  const [all, asked] = [found(), performance.now()];
  const select = document.querySelector("#samples [name=outcome]");
  select.value = "wrong";
  select.dispatchEvent(new Event("change"));
  await until(() => found() !== all);
  await frame();
  return [asked, performance.now(), all, found()];
}"""
"""In the page, whose clock starts with the navigation; times in milliseconds."""


def measure_report(root: Path, scale: ReportScale) -> Measured:
    """Build the report, then open its page and filter."""
    runs, parts, stores = make_report_world(root, scale)
    pairs = [(run.name, runs[0].name) for run in runs[1:]]
    with scratch_folder(root) as out:
        start = perf_counter()
        title = "How often is the answer right?"
        build_report(runs, parts, out, stores=stores, compare=pairs, title=title, min_coverage=0.9)
        built = perf_counter() - start
        shown, answered, all_found, wrong, version = _open(out / "report" / "index.html")
    return Measured(
        {
            "report_build_s": built,
            "page_interactive_s": answered,
            "filter_s": answered - shown,
        },
        {"page_shown_s": shown},
        {"chromium": version, "all": all_found, "wrong": wrong},
    )


def _open(path: Path) -> tuple[float, float, str, str, str]:
    """Seconds until it was shown and until it answered, what it found, the browser's version."""
    with chromium() as browser:
        page = browser.new_page()
        page.goto(path.resolve().as_uri(), wait_until="commit")
        shown, answered, every, wrong = page.evaluate(_ANSWERS)
        return shown / 1000, answered / 1000, every, wrong, browser.version


REPORT = Benchmark(
    name="report",
    about=__doc__ or "",
    parts={measure_report: ("report_build_s", "page_interactive_s", "filter_s")},
    limits=LIMITS,
    scales=SCALES,
    packages=("numpy", "pillow", "playwright"),
)

if __name__ == "__main__":
    raise SystemExit(REPORT.run())
