// How training went: loss and learning rate over steps.

const TALL = 240;
const [LEFT, RIGHT, BELOW, ABOVE] = [64, 26, 40, 10];

function curvesSection(curves) {
  const runs = Object.keys(curves);
  if (!runs.length) return null;
  const lines = (key) =>
    runs.slice(0, MOST_RUNS).map((run) => thinned(curves[run].step, curves[run][key]));
  const validated = runs.some((run) => curves[run].val?.some((value) => value !== null));
  return make(
    "section",
    { id: "training", "aria-labelledby": "training-head" },
    make("h2", { id: "training-head" }, "Training"),
    curveChart(
      "Training loss; long runs are drawn as means over neighbouring steps",
      runs,
      lines("loss"),
      "loss",
    ),
    validated ? curveChart("Validation loss", runs, lines("val"), "validation loss") : null,
    curveChart("Learning rate", runs, lines("lr"), "learning rate"),
    curveTable(curves),
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

function curveChart(title, runs, lines, unit) {
  const all = lines.flat();
  if (!all.length) return null;
  const [xs, ys] = [0, 1].map((axis) => all.map((point) => point[axis]));
  const down = roundTicks(Math.min(...ys), Math.max(...ys), 5);
  return chart(title, runs, TALL, (width) => {
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
      ...lines.flatMap((points, number) => curve(points, number, x, y)),
    ];
  });
}

function curve(points, number, x, y) {
  if (!points.length) return [];
  const path = points.map(([step, value]) => `${x(step)} ${y(value)}`).join("L");
  const marked = points.length > 30 ? points.slice(-1) : points;
  return [
    draw("path", { class: `curve s${number}`, d: `M${path}` }),
    ...marked.map(([step, value]) => mark(number, x(step), y(value))),
  ];
}

function shortNumber(value) {
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential() : String(value);
}

function curveTable(curves) {
  const last = (values) => values?.findLast((value) => value !== null) ?? null;
  return table(
    "The last logged values of each training",
    [
      { text: "run" },
      { text: "step", number: true },
      { text: "loss", number: true },
      { text: "validation loss", number: true },
    ],
    Object.entries(curves).map(([run, one]) => [
      run,
      count(last(one.step)),
      fixed(last(one.loss), 4),
      fixed(last(one.val), 4),
    ]),
  );
}
