// The numbers: a section a benchmark, with the paper's rows beside ours.

const FIVE = ["correctness", "detail", "context", "temporal", "consistency"];

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
  const tables = report.tables
    .filter((one) => one.dataset === dataset)
    .map((one) => ({ ...one, rows: inOrder(one.rows) }));
  return make(
    "section",
    {},
    make("h3", {}, dataset),
    tables
      .filter((one) => one.aspect === "qa")
      .flatMap((one) => [...refusals(one), accuracyTable(one), typeBars(one)]),
    groupedByJudge(tables.filter((one) => one.aspect !== "qa")).flatMap((scored) =>
      scoredResults(report, scored),
    ),
    publishedRows(report.published, dataset),
  );
}

// And by route: answers in one language never stand beside the same ones translated.
function groupedByJudge(tables) {
  const group = (one) => `${one.judge_slug} ${one.route}`;
  return unique(tables.map(group)).map((name) => tables.filter((one) => group(one) === name));
}

// What stands behind a benchmark's name: which texts were translated, and which way.
function translated(...tables) {
  const told = unique(tables.map((one) => one.translations)).filter(Boolean);
  return told.length ? ` - ${told.join("; ")}` : "";
}

// All scored aspects of one dataset and judge.
function scoredResults(report, scored) {
  const [{ dataset, judge_slug: slug, route }] = scored;
  const five = report.five.find(
    (one) =>
      one.dataset === dataset &&
      one.judge_slug === slug &&
      one.route === route &&
      one.rows.length,
  );
  const ordered = five && { ...five, rows: inOrder(five.rows) };
  return [
    ...scored.flatMap(refusals),
    ...(five ? [fiveTable(ordered, scored), fiveChart(ordered)] : [scoreTable(scored)]),
    ...scored
      .filter((one) => typesOf(one).length > 1)
      .flatMap((one) => [scoredTypesTable(one), typeBars(one)]),
  ];
}

// All questions and every type; of a single type that all questions have, only it.
function typesOf(one) {
  const types = unique(one.rows.flatMap((row) => Object.keys(row.types))).filter(
    (type) => type !== "all",
  );
  const whole = (row) => row.types[types[0]]?.asked === row.all.asked;
  return types.length === 1 && one.rows.every(whole) ? types : ["all", ...types];
}

function scoreOf(row, type) {
  return type === "all" ? row.all : row.types[type];
}

function accuracyTable(one) {
  const [lead, ...types] = typesOf(one);
  const several = types.length > 1;
  const judged = (text) => ({ text, note: one.judge, number: true });
  const head = [
    { text: "run" },
    { text: "seeds", number: true },
    judged(`${lead} %`),
    judged("score, 0 to 5"),
    ...(several ? [judged("mean of types %")] : []),
    ...types.map((type) => judged(`${type} %`)),
    ...overlapHeads(),
  ];
  const rows = one.rows.map((row) => [
    row.name,
    seedsCell(row),
    leadCell(row, percentCell(scoreOf(row, lead))),
    withInterval(row.all.score, row.all.score_low, row.all.score_high, 2),
    ...(several ? [fixed(row.macro, 1)] : []),
    ...types.map((type) => percentCell(scoreOf(row, type))),
    ...overlapCells(row.all),
  ]);
  const caption = `${one.dataset}, split ${one.split}${translated(one)}: accuracy in percent by type of question, judge ${one.judge}`;
  return table(caption, head, rows);
}

function overlapHeads(split) {
  const of = split ? ` (${split})` : "";
  return [`exact match %${of}`, `token F1 %${of}`].map((text) => ({
    text,
    note: "no judge",
    number: true,
  }));
}

function overlapCells(score) {
  return [fixed(score?.exact, 1), fixed(score?.f1, 1)];
}

// How many of a run's seeds were judged.
function seedsCell({ seeds, of_seeds: all = seeds }) {
  return seeds === all ? count(seeds) : `${count(seeds)} of ${count(all)}`;
}

// A row whose numbers are withheld says so where the first would stand.
function leadCell(row, cell) {
  return row.refused ? "no score" : cell;
}

function percentCell(score) {
  return score
    ? [...withInterval(score.accuracy, score.low, score.high, 1), partly(score)]
    : DASH;
}

function scoreCell(score) {
  return score
    ? [...withInterval(score.score, score.score_low, score.score_high, 2), partly(score)]
    : DASH;
}

// What a number rests on, where that is not all that was asked.
function partly({ asked, judged }) {
  return judged < asked
    ? make("small", {}, ` (${count(judged)} of ${count(asked)} judged)`)
    : null;
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

function rowOf(one, name) {
  return one.rows.find((row) => row.name === name);
}

// Exact match and F1 of every split: aspects of one split share their answers.
function splitOverlaps(tables) {
  const splits = unique(tables.map((one) => one.split));
  const answered = (split, name) =>
    tables.filter((one) => one.split === split).find((one) => rowOf(one, name));
  return {
    heads: splits.flatMap((split) => overlapHeads(splits.length > 1 ? split : "")),
    cells: (name) =>
      splits.flatMap((split) => {
        const one = answered(split, name);
        return overlapCells(one && rowOf(one, name).all);
      }),
  };
}

// Scores of aspects that were not all judged: a column each.
function scoreTable(tables) {
  const names = unique(inOrder(tables.flatMap((one) => one.rows)).map((row) => row.name));
  const overlaps = splitOverlaps(tables);
  const head = [
    { text: "run" },
    { text: "seeds", number: true },
    ...tables.map((one) => ({
      text: `${one.aspect} (${one.split})`,
      note: one.judge,
      number: true,
    })),
    ...overlaps.heads,
  ];
  const rows = names.map((name) => [
    name,
    seedsCell(fewestSeeds(tables.map((one) => rowOf(one, name)).filter(Boolean))),
    ...tables.map((one) => scoredCell(rowOf(one, name))),
    ...overlaps.cells(name),
  ]);
  const which = `${tables[0].dataset}${translated(...tables)}`;
  return table(`${which}: scores, 0 to 5, judge ${tables[0].judge}`, head, rows);
}

function fewestSeeds(rows) {
  return rows.reduce((fewest, row) => (row.seeds < fewest.seeds ? row : fewest));
}

function scoredCell(row) {
  return row ? leadCell(row, scoreCell(row.all)) : DASH;
}

function scoredTypesTable(one) {
  const types = typesOf(one);
  const head = [
    { text: "run" },
    ...types.map((text) => ({ text, note: one.judge, number: true })),
  ];
  const rows = one.rows.map((row) => [
    row.name,
    ...types.map((type) => scoreCell(scoreOf(row, type))),
  ]);
  const which = `${one.dataset}, split ${one.split}${translated(one)}`;
  const caption = `${which}: ${one.aspect}, 0 to 5, by type of question, judge ${one.judge}`;
  return table(caption, head, rows);
}

function fiveTable(five, tables) {
  const overlaps = splitOverlaps(tables);
  const judged = (text) => ({ text, note: five.judge, number: true });
  const head = [
    { text: "run" },
    { text: "seeds", number: true },
    ...FIVE.map(judged),
    judged("mean of the five"),
    judged("mean over questions"),
    ...overlaps.heads,
  ];
  const rows = five.rows.map((row) => [
    [row.name, missingAspects(row)],
    seedsCell(row),
    ...FIVE.map((aspect) => {
      const one = tables.find((each) => each.aspect === aspect);
      const refused = one && rowOf(one, row.name)?.refused;
      return leadCell({ refused }, scoreCell(row.aspects[aspect]));
    }),
    meanCell(row.mean_of_aspects),
    meanCell(row.question_weighted),
    ...overlaps.cells(row.name),
  ]);
  const which = `${five.dataset}${translated(five)}`;
  const caption = `${which}: scores of the five aspects, 0 to 5, judge ${five.judge}`;
  return table(caption, head, rows);
}

function missingAspects(row) {
  const missing = FIVE.filter((aspect) => !row.aspects[aspect]);
  return missing.length ? make("small", {}, ` not judged for: ${missing.join(", ")}`) : null;
}

function meanCell(estimate) {
  return estimate ? withInterval(estimate.mean, estimate.low, estimate.high, 2) : DASH;
}
