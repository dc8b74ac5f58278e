// Charts as SVG, drawn at the width they have on the screen, so that letters keep their size.

const MOST_RUNS = 8; // that a chart can tell apart
const SHAPES = [
  "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
  "M-4.5-4.5h9v9h-9z",
  "M0-6L6 0L0 6L-6 0z",
  "M0-6L5.5 4.5h-11z",
  "M0 6L5.5-4.5h-11z",
  "M-2-5.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5z",
  "M-5.5-3h11v6h-11z",
  "M-3-5.5h6v11h-6z",
];

// figure: the legend, then a drawing that follows the width; `paint(width)` gives its elements.
function chart(title, runs, height, paint) {
  const picture = draw("svg", {
    role: "img",
    "aria-label": `${title}. The numbers are in the tables.`,
  });
  const box = make("div", { class: "chart" }, picture);
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width === drawn || width === 0) return;
    drawn = width;
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("height", height);
    picture.replaceChildren(...paint(width).flat(2));
  }).observe(box);
  return make("figure", {}, make("figcaption", {}, title, notAll(runs)), legend(runs), box);
}

function notAll(runs) {
  return runs.length > MOST_RUNS ? ` (the first ${MOST_RUNS} of ${runs.length} runs)` : null;
}

function legend(runs) {
  const key = (number) =>
    draw(
      "svg",
      { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" },
      mark(number, 0, 0),
    );
  return make(
    "ul",
    { class: "legend" },
    runs.slice(0, MOST_RUNS).map((name, number) => make("li", {}, key(number), name)),
  );
}

function mark(number, x, y) {
  return draw("path", {
    class: `series s${number}`,
    d: SHAPES[number],
    transform: `translate(${x} ${y})`,
  });
}

function intervalLine(number, scale, low, high, y) {
  if (low === null || low === undefined) return [];
  const [left, right] = [scale(low), scale(high)];
  return [
    draw("path", {
      class: `interval s${number}`,
      d: `M${left} ${y - 4}v8M${left} ${y}H${right}M${right} ${y - 4}v8`,
    }),
  ];
}

function label(x, y, text, anchor = "start") {
  return draw("text", { x, y, "text-anchor": anchor }, text);
}

// Vertical lines with their numbers below, and what they count.
function valueAxis(scale, ticks, bottom, name, middle) {
  return [
    ...ticks.map((tick) =>
      draw("line", { class: "grid", x1: scale(tick), x2: scale(tick), y1: 0, y2: bottom }),
    ),
    ...ticks.map((tick) => label(scale(tick), bottom + 16, String(tick), "middle")),
    label(middle, bottom + 34, name, "middle"),
  ];
}

function linear(from, to, start, end) {
  const span = to - from || 1;
  return (value) => Math.round((start + ((value - from) / span) * (end - start)) * 10) / 10;
}

// About `wanted` round numbers that cover from..to.
function roundTicks(from, to, wanted) {
  const rough = (to - from || Math.abs(to) || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
  const first = Math.floor(from / step + 1e-9);
  const last = Math.ceil(to / step - 1e-9);
  return Array.from({ length: Math.max(last - first, 1) + 1 }, (_, at) =>
    Number(((first + at) * step).toPrecision(12)),
  );
}

const LINE = 16; // height of one run
const GAP = 14; // between groups

// Groups of runs below one another: a name each, and a line for every run in it.
// groups: {name, values: [{value, low, high} or null a run]}; body(number, scale, estimate, y).
function groupedChart(title, runs, groups, ticks, unit, body) {
  const shown = Math.min(runs.length, MOST_RUNS);
  const tall = shown * LINE + GAP;
  const bottom = groups.length * tall;
  return chart(title, runs, bottom + 42, (width) => {
    const left = Math.min(150, width * 0.3);
    const scale = linear(ticks[0], ticks.at(-1), left, width - 14);
    const rows = groups.map(({ name, values }, at) => {
      const top = at * tall + GAP / 2;
      return [
        label(0, top + (shown * LINE) / 2 + 4, shortened(name, left)),
        draw("line", {
          class: "grid",
          x1: 0,
          x2: width,
          y1: top + tall - GAP / 2,
          y2: top + tall - GAP / 2,
        }),
        ...values
          .slice(0, shown)
          .flatMap((estimate, number) =>
            estimate && estimate.value !== null
              ? body(number, scale, estimate, top + number * LINE + LINE / 2)
              : [],
          ),
      ];
    });
    return [valueAxis(scale, ticks, bottom, unit, (left + width - 14) / 2), ...rows];
  });
}

function shortened(text, width) {
  const most = Math.max(4, Math.floor(width / 7.5));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function fiveChart(five) {
  const runs = five.rows.map((row) => row.name);
  const scored = (score) =>
    score && { value: score.score, low: score.score_low, high: score.score_high };
  const mean = (found) => found && { value: found.mean, low: found.low, high: found.high };
  const groups = [
    ...Object.keys(five.rows[0].aspects).map((aspect) => ({
      name: aspect,
      values: five.rows.map((row) => scored(row.aspects[aspect])),
    })),
    { name: "mean of the five", values: five.rows.map((row) => mean(row.mean_of_aspects)) },
  ];
  const ends = groups
    .flatMap(({ values }) =>
      values.slice(0, MOST_RUNS).flatMap((one) => [one?.value, one?.low, one?.high]),
    )
    .filter((end) => typeof end === "number");
  const ticks = ends.length ? roundTicks(Math.min(...ends), Math.max(...ends), 5) : [0, 5];
  return groupedChart(
    `Five aspects of ${five.dataset}, with 95 % intervals; the axis does not begin at 0`,
    runs,
    groups,
    ticks,
    `score, 0 to 5; judge ${five.judge}`,
    (number, scale, { value, low, high }, y) => [
      ...intervalLine(number, scale, low, high, y),
      mark(number, scale(value), y),
    ],
  );
}

function typeBars(one) {
  const percent = one.aspect === "qa";
  const value = (score) =>
    score &&
    (percent
      ? { value: score.accuracy, low: score.low, high: score.high }
      : { value: score.score, low: score.score_low, high: score.score_high });
  const groups = typesOf(one).map((type) => ({
    name: type,
    values: one.rows.map((row) => value(scoreOf(row, type))),
  }));
  const title = `${one.dataset}, split ${one.split}: ${percent ? "accuracy" : one.aspect} by type, with 95 % intervals`;
  const unit = `${percent ? "percent" : "score, 0 to 5"}; judge ${one.judge}`;
  return groupedChart(
    title,
    one.rows.map((row) => row.name),
    groups,
    percent ? [0, 25, 50, 75, 100] : [0, 1, 2, 3, 4, 5],
    unit,
    (number, scale, estimate, y) => [
      draw("rect", {
        class: `series s${number}`,
        x: scale(0),
        y: y - 5,
        width: scale(estimate.value) - scale(0),
        height: 10,
      }),
      ...intervalLine("-bar", scale, estimate.low, estimate.high, y),
    ],
  );
}
