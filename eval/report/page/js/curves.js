// How training went: loss and learning rate over steps.

const TALL = 240;
const [LEFT, RIGHT, BELOW, ABOVE] = [64, 26, 40, 10];

function curvesSection(curves) {
  const runs = order.filter((run) => run in curves);
  if (!runs.length) return null;
  return make(
    "section",
    { id: "training", "aria-labelledby": "training-head" },
    make("h2", { id: "training-head" }, "Training"),
    make(
      "p",
      {},
      "Of each run’s first seed. Long curves are thinned: a point is the mean over neighbouring steps.",
    ),
    curveChart(curves, runs, "loss", "Training loss", "loss"),
    curveChart(curves, runs, "val", "Validation loss", "validation loss"),
    curveChart(curves, runs, "lr", "Learning rate", "learning rate"),
    curveTable(curves, runs),
  );
}

// At most 300 points [step, value], each the mean over its neighbours.
function thinned(steps, values) {
  const points = steps
    .map((step, at) => [step, values?.[at]])
    .filter(([, value]) => Number.isFinite(value));
  const size = Math.ceil(points.length / 300);
  const chunks = Array.from({ length: Math.ceil(points.length / (size || 1)) }, (_, at) =>
    points.slice(at * size, (at + 1) * size),
  );
  return chunks.map((chunk) =>
    [0, 1].map((axis) => chunk.reduce((sum, point) => sum + point[axis], 0) / chunk.length),
  );
}

// Null where nothing was logged.
function curveChart(curves, runs, key, title, unit) {
  const names = runs.filter((run) => curves[run][key]?.some(Number.isFinite));
  const lines = markedRuns(names).map((run) => ({
    number: numberOf(run),
    points: thinned(curves[run].step, curves[run][key]),
  }));
  const all = lines.flatMap(({ points }) => points);
  if (!all.length) return null;
  const ends = names.map((run) => `${run} ${shortNumber(lastOf(curves[run][key]))}`);
  const numbers = `Final values: ${ends.join("; ")}.`;
  const [xs, ys] = [0, 1].map((axis) => all.map((point) => point[axis]));
  const down = roundTicks(Math.min(...ys), Math.max(...ys), 5);
  return chart({ title, names, numbers, height: TALL }, (width) => {
    const across = roundTicks(Math.min(...xs), Math.max(...xs), width < 500 ? 3 : 6);
    const x = linear(across[0], across.at(-1), LEFT, width - RIGHT);
    const y = linear(down[0], down.at(-1), TALL - BELOW, ABOVE);
    return [
      ...across.map((tick) => label(x(tick), TALL - BELOW + 16, String(tick), "middle")),
      ...down.map((tick) =>
        draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
      ),
      ...down.map((tick) => label(LEFT - 6, y(tick) + 4, shortNumber(tick), "end")),
      label((LEFT + width) / 2, TALL - 6, `step; upwards: ${unit}`, "middle"),
      ...lines.flatMap(({ points, number }) => curve(points, number, x, y)),
    ];
  });
}

function curve(points, number, x, y) {
  const path = points.map(([step, value]) => `${x(step)} ${y(value)}`).join("L");
  const marked = points.length > 30 ? points.slice(-1) : points;
  return [
    draw("path", { class: `curve s${number}`, d: `M${path}` }),
    ...marked.map(([step, value]) => mark(number, x(step), y(value))),
  ];
}

function shortNumber(value) {
  const short = Number(value.toPrecision(4));
  return short !== 0 && Math.abs(short) < 0.001 ? short.toExponential() : String(short);
}

function lastOf(values) {
  return values?.findLast(Number.isFinite) ?? null;
}

function curveTable(curves, runs) {
  return longTable(
    "The last logged values of each run’s first seed",
    [
      { text: "run" },
      { text: "step", number: true },
      { text: "loss", number: true },
      { text: "validation loss", number: true },
    ],
    runs.map((run) => [
      run,
      count(lastOf(curves[run].step)),
      fixed(lastOf(curves[run].loss), 4),
      fixed(lastOf(curves[run].val), 4),
    ]),
  );
}
