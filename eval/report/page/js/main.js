// The page from top to bottom.

function leadText(report) {
  const judges = unique(report.tables.map((one) => one.judge));
  const offline = judges.filter((judge) => judge.startsWith("offline"));
  return [
    make(
      "p",
      {},
      "Each run was asked every question of a benchmark about its videos and answered in words. " +
        "A judge compared each answer with the reference: ",
      make("strong", {}, judges.join("; ") || "none"),
      ". Numbers of different judges cannot be compared with one another.",
    ),
    offline.length
      ? make(
          "p",
          { class: "note" },
          make("strong", {}, offline.join("; ")),
          " works on the words alone, without a language model. It is not GPT, and its numbers cannot be " +
            "compared with GPT-judged ones.",
        )
      : null,
    ...(report.warnings ?? []).map((text) => make("p", { class: "note" }, make("strong", {}, "Warning: "), text)),
  ].filter(Boolean);
}

function contentsOf(sections) {
  return make(
    "ul",
    {},
    sections.map((section) =>
      make(
        "li",
        {},
        make(
          "a",
          { href: `#${section.id}`, click: (event) => goTo(section, event) },
          section.querySelector("h2").textContent,
        ),
      ),
    ),
  );
}

// The address keeps what the sample browser shows.
function goTo(section, event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const head = section.querySelector("h2");
  head.tabIndex = -1;
  head.focus({ preventScroll: true });
  section.scrollIntoView();
}

function showReport(report) {
  orderRuns(report);
  document.title = report.title;
  byId("title").textContent = "";
  fill(byId("title"), {}, [report.title]);
  byId("lead").append(...leadText(report));
  const sections = [
    resultsSection(report),
    differencesSection(report),
    samplesSection(report.parts),
    coverageSection(report),
    agreementSection(report),
    curvesSection(report.curves),
    costSection(report),
    fingerprintsSection(report),
  ].filter(Boolean);
  byId("contents").append(contentsOf(sections));
  document.querySelector(".skip").addEventListener("click", (event) => goTo(sections[0], event));
  document.querySelector("main").replaceChildren(...sections);
  if (!isState(location.hash)) byId(location.hash.slice(1))?.scrollIntoView();
}

load("report")
  .then(showReport)
  .catch((error) => {
    byId("state").className = "problem";
    byId("state").textContent = error.message;
  });
