// The numbers: a section a benchmark, with the paper's rows beside ours.

function resultsSection(report) {
  const section = make(
    "section",
    { id: "results", "aria-labelledby": "results-head" },
    make("h2", { id: "results-head", tabindex: "-1" }, "Results"),
    make(
      "p",
      {},
      "In square brackets: the 95 % interval, a cluster bootstrap that draws whole " +
        "videos, over the mean of a run’s seeds. It covers the choice of test videos, not the choice " +
        "of seeds. Where too few questions were judged there is no number, and the reason is given.",
    ),
  );
  for (const dataset of unique(report.tables.map((one) => one.dataset))) {
    section.append(datasetResults(report, dataset));
  }
  return section;
}

function datasetResults(report, dataset) {
  const tables = report.tables.filter((one) => one.dataset === dataset);
  const box = make("section", {}, make("h3", {}, dataset));
  for (const one of tables.filter((each) => each.aspect === "qa")) {
    box.append(...accuracyTable(one), typeBars(one));
  }
  for (const scored of groupedByJudge(tables.filter((each) => each.aspect !== "qa"))) {
    const five = report.five.find(
      (one) =>
        one.dataset === dataset && one.judge_slug === scored[0].judge_slug && one.rows.length,
    );
    box.append(...(five ? fiveResults(five, scored) : [scoreTable(scored)]));
    box.append(...scored.filter((one) => typesOf(one).length > 1).map(typeBars));
  }
  box.append(...publishedRows(report.published, dataset));
  return box;
}

function groupedByJudge(tables) {
  return unique(tables.map((one) => one.judge_slug)).map((slug) =>
    tables.filter((one) => one.judge_slug === slug),
  );
}

// Every type, and all questions where that says something more.
function typesOf(one) {
  const types = unique(one.rows.flatMap((row) => Object.keys(row.types)));
  return types.includes("all") ? types : [...types, "all"];
}

function scoreOf(row, type) {
  return type === "all" ? row.all : row.types[type];
}

function accuracyTable(one) {
  const types = typesOf(one);
  const judged = (text) => ({ text, note: one.judge, number: true });
  const alone = (text) => ({ text, note: "no judge", number: true });
  const several = types.length > 1;
  const head = [
    { text: "run" },
    { text: "seeds", number: true },
    ...types.map((type) => judged(`${type} %`)),
    ...(several ? [judged("mean of types %")] : []),
    judged("score, 0 to 5"),
    alone("exact match %"),
    alone("token F1 %"),
  ];
  const rows = one.rows.map((row) => [
    row.name,
    seedsCell(row),
    ...types.map((type) => percentCell(scoreOf(row, type))),
    ...(several ? [fixed(row.macro, 1)] : []),
    scoreCell(row.all),
    fixed(row.all.exact, 1),
    fixed(row.all.f1, 1),
  ]);
  const caption = `${one.dataset}, split ${one.split}: accuracy in percent by type of question, judge ${one.judge}`;
  return [...refusals(one), table(caption, head, rows)];
}

// How many of a run's seeds were judged.
function seedsCell({ seeds, of_seeds: all = seeds }) {
  return seeds === all ? count(seeds) : `${count(seeds)} of ${count(all)}`;
}

function percentCell(score) {
  return score ? withInterval(score.accuracy, score.low, score.high, 1) : [DASH];
}

function scoreCell(score) {
  return score ? withInterval(score.score, score.score_low, score.score_high, 2) : [DASH];
}

function refusals(one) {
  return one.rows
    .filter((row) => row.refused)
    .map((row) =>
      make(
        "p",
        { class: "problem" },
        make("strong", {}, row.name),
        ` (${whichTable(one)}): ${row.refused}`,
      ),
    );
}

// Scores of aspects that were not all judged: a column each.
function scoreTable(tables) {
  const names = unique(tables.flatMap((one) => one.rows.map((row) => row.name)));
  const row = (one, name) => one.rows.find((each) => each.name === name);
  const head = [
    { text: "run" },
    ...tables.map((one) => ({
      text: `${one.aspect} (${one.split})`,
      note: one.judge,
      number: true,
    })),
  ];
  const rows = names.map((name) => [name, ...tables.map((one) => scoreCell(row(one, name)?.all))]);
  const caption = `${tables[0].dataset}: scores, 0 to 5, judge ${tables[0].judge}`;
  return make("div", {}, tables.flatMap(refusals), table(caption, head, rows));
}

function fiveResults(five, tables) {
  const aspects = Object.keys(five.rows[0].aspects);
  const judged = (text) => ({ text, note: five.judge, number: true });
  const head = [
    { text: "run" },
    { text: "seeds", number: true },
    ...aspects.map(judged),
    judged("mean of the five"),
    judged("mean over questions"),
  ];
  const rows = five.rows.map((row) => [
    row.name,
    count(row.seeds),
    ...aspects.map((aspect) => scoreCell(row.aspects[aspect])),
    meanCell(row.mean_of_aspects),
    meanCell(row.question_weighted),
  ]);
  const caption = `${five.dataset}: scores of the five aspects, 0 to 5, judge ${five.judge}`;
  return [...tables.flatMap(refusals), table(caption, head, rows), fiveChart(five)];
}

function meanCell(estimate) {
  return estimate ? withInterval(estimate.mean, estimate.low, estimate.high, 2) : [DASH];
}
