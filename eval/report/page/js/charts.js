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
// names: of all runs there are, of which the first are drawn; numbers: a sentence that gives
// them or says where they stand.
function chart({ title, names, numbers, height }, paint) {
  const picture = draw("svg", { role: "img", "aria-label": `${title}. ${numbers}` });
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
  const runs = markedRuns(names);
  const few = runs.length < names.length ? ` (${runs.length} of ${names.length} runs)` : "";
  const caption = make("figcaption", {}, `${title}${few}. ${numbers}`);
  return make("figure", {}, caption, legend(runs), box);
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
    runs.map((name) => make("li", {}, key(numberOf(name)), name)),
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

// Cut to fit; the whole text is read when pointed at.
function shortLabel(x, y, text, width) {
  const short = shortened(text, width);
  const whole = short === text ? null : draw("title", {}, text);
  return draw("text", { x, y }, whole, short);
}

// A Chinese, Japanese or Korean character is as wide as two letters.
function shortened(text, width) {
  const most = Math.max(4, Math.floor(width / 7.5));
  const wide = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/;
  const characters = [...text];
  const sizes = characters.map((one) => (wide.test(one) ? 2 : 1));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (total <= most) return text;
  let [kept, room] = [0, most - 1];
  while (sizes[kept] <= room) room -= sizes[kept++];
  return `${characters.slice(0, kept).join("")}…`;
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
