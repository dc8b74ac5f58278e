// Making elements. Every text of the data becomes a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";
const DASH = "–"; // stands where there is no number

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

// Functions become event listeners; null, undefined and false leave an attribute or child out. What
// is Chinese is marked as such: its glyphs and its voice differ.
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  const shown = children.flat().filter((child) => child !== null && child !== undefined);
  if (shown.some(isChinese)) element.setAttribute("lang", "zh-Hans");
  element.append(...shown);
  return element;
}

// A text with more Chinese characters than words in Latin letters; kana are Japanese.
function isChinese(text) {
  if (typeof text !== "string" || /[\u3040-\u30ff]/.test(text)) return false;
  const count = (pattern) => text.match(pattern)?.length ?? 0;
  return count(/[\u3400-\u9fff]/g) > count(/[A-Za-z]+/g);
}

function byId(id) {
  return document.getElementById(id);
}

function fixed(value, digits) {
  return value === null || value === undefined ? DASH : value.toFixed(digits).replace("-", "−");
}

function count(value) {
  return value === null || value === undefined ? DASH : value.toLocaleString("en-GB");
}

// A number with its 95 % interval, as parts of a table cell.
function withInterval(value, low, high, digits) {
  if (value === null || value === undefined || low === null || low === undefined) {
    return [fixed(value, digits)];
  }
  const interval = ` [${fixed(low, digits)}, ${fixed(high, digits)}]`;
  return [fixed(value, digits), make("span", { class: "soft" }, interval)];
}

// A table that scrolls by itself where it is too wide.
// head: {text, note, number} a column; rows: a list of cells each, the first of them its header;
// a cell is a text, an element or a list of both.
function table(caption, head, rows) {
  const heads = head.map(({ text, note, number }) =>
    make(
      "th",
      { scope: "col", class: number ? "number" : null },
      text,
      note ? make("small", {}, note) : null,
    ),
  );
  const bodies = rows.map(([first, ...cells]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, first),
      cells.map((cell, at) => make("td", { class: head[at + 1].number ? "number" : null }, cell)),
    ),
  );
  return make(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    make(
      "table",
      {},
      make("caption", {}, make("span", {}, caption)),
      make("thead", {}, make("tr", {}, heads)),
      make("tbody", {}, bodies),
    ),
  );
}

const LONG = 12; // rows that a reader takes in at once

// Longer tables stand folded.
function longTable(caption, head, rows) {
  if (rows.length <= LONG) return table(caption, head, rows);
  const summary = make("summary", {}, `${caption.split(". ")[0]} (${count(rows.length)} rows)`);
  return make("details", {}, summary, table(caption, head, rows));
}

function choice(label, name, options, chosen, changed) {
  const select = make(
    "select",
    { name, change: () => changed(select.value) },
    options.map(([value, text]) => make("option", { value }, text)),
  );
  select.value = chosen;
  return make("label", { class: "control" }, make("span", {}, label), select);
}

function unique(values) {
  return [...new Set(values)];
}
