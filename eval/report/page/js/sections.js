// What the numbers rest on: differences, coverage, agreement of judges, cost, fingerprints.

function differencesSection(report) {
  const found = [...report.tables.flatMap(tableDifferences), ...report.five.flatMap(meanDifferences)];
  const ofAll = found.filter(({ type }) => type === "all");
  return titled("differences", "Differences between runs", found, () =>
    found.length <= LONG || !ofAll.length
      ? differencesTable("", found)
      : [differencesTable("", ofAll), differencesTable("By type as well: ", found)],
  );
}

function tableDifferences(one) {
  return one.differences.map((d) => ({ ...d, which: whichTable(one), judge: one.judge }));
}

// Of the mean of the five aspects.
function meanDifferences(five) {
  return (five.differences ?? []).map(({ a, b, mean_of_aspects: mean, excludes_zero }) => ({
    ...{ a, b, which: `${five.dataset}, mean of the five`, type: "all", judge: five.judge },
    ...{ score: mean?.mean, score_low: mean?.low, score_high: mean?.high, excludes_zero },
  }));
}

function differencesTable(before, found) {
  return longTable(
    `${before}The first run minus the second, paired question by question; 95 % interval by video. ` +
      "An interval that holds 0 means: these videos cannot tell the two apart",
    [
      { text: "comparison" },
      { text: "benchmark" },
      { text: "type" },
      { text: "judge" },
      { text: "points of accuracy", number: true },
      { text: "points of score", number: true },
      { text: "interval excludes 0" },
      { text: "questions", number: true },
    ],
    found.map((d) => [
      `${d.a} − ${d.b}`,
      d.which,
      d.type,
      d.judge,
      withInterval(d.points, d.low, d.high, 2),
      withInterval(d.score, d.score_low, d.score_high, 2),
      { true: "yes", false: "no" }[excludesZero(d)] ?? DASH,
      count(d.questions),
    ]),
  );
}

// Of the accuracy where there is one, else of the score; null without an interval.
function excludesZero({ excludes_zero: told, low, high, score_low, score_high }) {
  if (told !== undefined) return told;
  const [from, to] = isNumber(low) ? [low, high] : [score_low, score_high];
  return isNumber(from) ? from > 0 || to < 0 : null;
}

function coverageSection(report) {
  const found = report.tables.flatMap((one) => inOrder(one.rows).map((row) => ({ one, row })));
  return titled("coverage", "Coverage and losses", found, () => [
    longTable(
      "Questions. One counts as judged when the answers of all seeds were. A lost question had no answer, " +
        "a failure no usable verdict; neither is counted as wrong",
      [
        { text: "run" },
        { text: "benchmark" },
        { text: "judge" },
        { text: "asked", number: true },
        { text: "judged", number: true },
        { text: "judged %", number: true },
        { text: "lost", number: true },
        { text: "why lost" },
        { text: "failures of the judge" },
        { text: "contradictions", number: true },
      ],
      found.map(({ one, row }) => [
        row.name,
        whichTable(one),
        one.judge,
        ...coverageCells(row.all),
        counted(row.lost),
        counted(row.all.failures),
        count(row.all.contradictions),
      ]),
    ),
    typesCoverage(found),
  ]);
}

function coverageCells({ asked, judged, lost }) {
  const share = asked ? fixed((100 * judged) / asked, 1) : DASH;
  return [count(asked), count(judged), share, count(lost)];
}

// Null where no question has a type.
function typesCoverage(found) {
  const rows = found.flatMap(({ one, row }) =>
    Object.entries(row.types)
      .filter(([type]) => type !== "all")
      .map(([type, score]) => [
        row.name,
        whichTable(one),
        one.judge,
        type,
        ...coverageCells(score),
        counted(score.failures),
      ]),
  );
  if (!rows.length) return null;
  return longTable(
    "The same by type of question",
    [
      { text: "run" },
      { text: "benchmark" },
      { text: "judge" },
      { text: "type" },
      { text: "asked", number: true },
      { text: "judged", number: true },
      { text: "judged %", number: true },
      { text: "lost", number: true },
      { text: "failures of the judge" },
    ],
    rows,
  );
}

function agreementSection(report) {
  return titled("agreement", "Agreement of judges", report.agreement, () =>
    longTable(
      "How far two judges say the same of the same answers, those of one seed: the first that both judged",
      [
        { text: "judges" },
        { text: "benchmark" },
        { text: "run" },
        { text: "questions", number: true },
        { text: "same verdict %", number: true },
        { text: "Cohen’s kappa", number: true },
        { text: "Spearman, scores", number: true },
        { text: "mean score, first − second", number: true },
      ],
      report.agreement.map((one) => [
        `${one.a} / ${one.b}`,
        whichTable(one),
        one.run ?? "all",
        count(one.questions),
        fixed(one.same, 1),
        fixed(one.kappa, 3),
        fixed(one.spearman, 3),
        fixed(one.score_gap, 2),
      ]),
    ),
  );
}

function costSection(report) {
  return titled("cost", "Cost", report.cost, () => [
    longTable(
      "What each evaluation took. An answer is truncated when it was cut at the most tokens allowed",
      [
        { text: "run" },
        { text: "benchmark" },
        { text: "judge" },
        { text: "answering, s", number: true },
        { text: "new tokens", number: true },
        { text: "truncated", number: true },
        { text: "judge, prompt tokens", number: true },
        { text: "judge, reply tokens", number: true },
      ],
      report.cost.map((one) => [
        one.run,
        `${one.dataset}, ${one.split}`,
        one.judge,
        fixed(one.generate_s, 1),
        count(one.new_tokens),
        count(one.truncated),
        count(one.judge_prompt_tokens),
        count(one.judge_completion_tokens),
      ]),
    ),
    secondsTable(report.seconds),
  ]);
}

function secondsTable(seconds) {
  const stages = Object.entries(seconds);
  return stages.length === 0
    ? null
    : table(
        "Wall clock by stage",
        [{ text: "stage" }, { text: "seconds", number: true }],
        stages.map(([stage, value]) => [stage, fixed(value, 1)]),
      );
}

function fingerprintsSection(report) {
  const found = Object.entries(report.fingerprints);
  return titled("fingerprints", "Fingerprints", found, () =>
    longTable(
      "What the answers depend on. Two reports with the same fingerprints are about the same things",
      [{ text: "what" }, { text: "fingerprint" }],
      found.map(([what, value]) => [what, make("code", {}, value)]),
    ),
  );
}

function titled(id, title, found, body) {
  return found.length === 0
    ? null
    : make(
        "section",
        { id, "aria-labelledby": `${id}-head` },
        make("h2", { id: `${id}-head` }, title),
        body(),
      );
}

function whichTable(one) {
  const aspect = ["qa", one.split].includes(one.aspect) ? "" : `, ${one.aspect}`;
  return `${one.dataset}, ${one.split}${aspect}`;
}

function counted(counts) {
  const found = Object.entries(counts).filter(([, number]) => number > 0);
  return found.map(([code, number]) => `${code} ${number}`).join(", ") || DASH;
}
