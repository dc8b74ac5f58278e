// Charts of scores: groups of runs below one another.

const LINE = 16; // height of one run
const GAP = 14; // between groups
const ABOVE_CHART = "The numbers are in the table above.";

// A name for each group, and a line for every run in it; null where no run has a number.
// groups: {name, values: {run: {value, low, high} or null}}; body(number, scale, estimate, y).
function groupedChart({ title, names, groups, ticks, unit }, body) {
  const runs = markedRuns(names);
  const known = ({ values }) => runs.some((run) => isNumber(values[run]?.value));
  if (!groups.some(known)) return null;
  const tall = runs.length * LINE + GAP;
  const bottom = groups.length * tall;
  return chart({ title, names, numbers: ABOVE_CHART, height: bottom + 42 }, (width) => {
    const left = Math.min(150, width * 0.3);
    const scale = linear(ticks[0], ticks.at(-1), left, width - 14);
    const rows = groups.map(({ name, values }, at) => {
      const top = at * tall + GAP / 2;
      const below = top + tall - GAP / 2;
      return [
        shortLabel(0, top + (runs.length * LINE) / 2 + 4, name, left),
        draw("line", { class: "grid", x1: 0, x2: width, y1: below, y2: below }),
        ...runs.flatMap((run, line) => {
          const y = top + line * LINE + LINE / 2;
          const estimate = values[run];
          if (!estimate) return [];
          if (!isNumber(estimate.value)) return [label(left + 4, y + 4, "no score")];
          return body(numberOf(run), scale, estimate, y);
        }),
      ];
    });
    return [valueAxis(scale, ticks, bottom, unit, (left + width - 14) / 2), ...rows];
  });
}

function isNumber(value) {
  return typeof value === "number";
}

// {run: estimate or null} of a table's rows.
function byRun(rows, estimate) {
  return Object.fromEntries(rows.map((row) => [row.name, estimate(row)]));
}

function accuracyOf(score) {
  return score ? { value: score.accuracy, low: score.low, high: score.high } : null;
}

function scoreEstimate(score) {
  return score ? { value: score.score, low: score.score_low, high: score.score_high } : null;
}

function fiveChart(five) {
  const mean = (found) => found && { value: found.mean, low: found.low, high: found.high };
  const groups = [
    ...FIVE.map((aspect) => ({
      name: aspect,
      values: byRun(five.rows, (row) => scoreEstimate(row.aspects[aspect])),
    })),
    { name: "mean of the five", values: byRun(five.rows, (row) => mean(row.mean_of_aspects)) },
  ];
  const ends = groups
    .flatMap(({ values }) => Object.values(values))
    .flatMap((one) => [one?.value, one?.low, one?.high])
    .filter(isNumber);
  return groupedChart(
    {
      title: `Five aspects of ${five.dataset}${translated(five)}, with 95 % intervals; the axis does not begin at 0`,
      names: five.rows.map((row) => row.name),
      groups,
      ticks: ends.length ? roundTicks(Math.min(...ends), Math.max(...ends), 5) : [0, 5],
      unit: `score, 0 to 5; judge ${five.judge}`,
    },
    (number, scale, { value, low, high }, y) => [
      ...intervalLine(number, scale, low, high, y),
      mark(number, scale(value), y),
    ],
  );
}

// Null for a single type: its bar says no more than the table.
function typeBars(one) {
  const types = typesOf(one);
  if (types.length < 2) return null;
  const percent = one.aspect === "qa";
  const estimate = percent ? accuracyOf : scoreEstimate;
  const what = percent ? "accuracy" : one.aspect;
  return groupedChart(
    {
      title: `${one.dataset}, split ${one.split}${translated(one)}: ${what} by type, with 95 % intervals`,
      names: one.rows.map((row) => row.name),
      groups: types.map((type) => ({
        name: type,
        values: byRun(one.rows, (row) => estimate(scoreOf(row, type))),
      })),
      ticks: percent ? [0, 25, 50, 75, 100] : [0, 1, 2, 3, 4, 5],
      unit: `${percent ? "percent" : "score, 0 to 5"}; judge ${one.judge}`,
    },
    (number, scale, { value, low, high }, y) => [
      draw("rect", {
        class: `series s${number}`,
        x: scale(0),
        y: y - 5,
        width: scale(value) - scale(0),
        height: 10,
      }),
      ...intervalLine("-bar", scale, low, high, y),
    ],
  );
}
