// The review page. Every text of the data becomes a text node, never markup.
"use strict";
(() => {
const byId = (id) => document.getElementById(id);
const DECIDED = ["accepted", "edited", "rejected"];
const slices = new Map(); // first position of a slice → its lines; of one filter at a time
const undos = []; // what this tab decided, the last one last
let reviewer = document.body.dataset.reviewer;
let toReview = true; // only lines with flags and those of the sample
let at = 0; // position among the lines that are shown
let progress = { review: { decided: 0, total: 0 }, all: { decided: 0, total: 0 } };
let busy = false;
let named = false; // whether the name was confirmed on this page

// Whether something was typed that is not saved.
function typed() {
  return !byId("edit").hidden && byId("edit").value !== (current()?.target ?? "");
}

function current() {
  for (const [first, lines] of slices) {
    if (first <= at && at < first + lines.length) return lines[at - first];
  }
  return null;
}

// Of the lines that are shown.
function counts() {
  return toReview ? progress.review : progress.all;
}

function done() {
  return counts().decided === counts().total;
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

// One request at a time; null where it came to nothing, and the page says why.
async function ask(path, body) {
  busy = true;
  byId("line").setAttribute("aria-busy", "true");
  try {
    const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
    const reply = await fetch(path, options);
    const told = await reply.json();
    complain(reply.ok ? "" : `Not done: ${told.error}`);
    progress = told.progress ?? progress;
    if (told.line) keep(told.line);
    return reply.ok ? told : null;
  } catch (error) {
    complain(`Not done: the server does not answer. Start it again and open its new address. (${error.message})`);
    return null;
  } finally {
    busy = false;
    byId("line").removeAttribute("aria-busy");
  }
}

function keep(line) {
  for (const lines of slices.values()) {
    const place = lines.findIndex((other) => other.id === line.id);
    if (place >= 0) lines[place] = line;
  }
}

async function load(query) {
  const told = await ask(`lines?all=${Number(!toReview)}&${query}`);
  if (!told) return;
  at = told.at;
  slices.clear(); // what others decided meanwhile comes with every slice
  slices.set(told.first, told.lines);
  show();
}

async function go(to) {
  if (to < 0 || to >= counts().total) return show();
  at = to;
  return current() ? show() : load(`at=${to}`);
}

function showProgress() {
  const [decided, total, place] = [counts().decided, counts().total, at + 1].map((n) => n.toLocaleString("en-GB"));
  const where = counts().total ? `${place} of ${total}` : "none";
  byId("progress").textContent = `${toReview ? "To review" : "All lines"}: ${decided} of ${total} done; line ${where}`;
  byId("done").textContent = done() ? finished(total) : "";
  document.querySelector("[data-key=f]").setAttribute("aria-pressed", String(toReview));
}

function finished(total) {
  if (!toReview) return "All lines are reviewed.";
  const what = counts().total ? `Done: nothing is left of the ${total} lines to review.` : "No line has a flag, and no sample was drawn.";
  return `${what} f shows all lines.`;
}

function show() {
  const line = current();
  byId("edit").hidden = true;
  byId("save").hidden = true;
  byId("target").hidden = false;
  byId("reviewer").textContent = reviewer;
  showProgress();
  byId("name").textContent = line ? line.id : "";
  for (const part of ["source", "context", "target", "machine"]) {
    byId(part).textContent = line ? line[part] ?? "" : "";
  }
  byId("context-part").hidden = !line || !line.context;
  byId("machine-part").hidden = !line || line.machine === null;
  byId("status").textContent = !line || line.status === "machine" ? "" : `${line.status} ${line.reviewer ? `by ${line.reviewer}` : line.error}`;
  byId("status").dataset.status = line ? line.status : "";
  byId("flags").replaceChildren(
    ...(line ? line.flags : []).map((flag) => {
      const item = document.createElement("li");
      item.textContent = `${flag.check}: ${flag.reason}`;
      return item;
    }),
  );
}

async function decide(line, status, target, restored) {
  const seen = line.reviewed;
  return ask("decide", { id: line.id, status, target: target ?? "", reviewer, seen, ...restored });
}

async function say(status, target) {
  const before = current();
  if (!before) return;
  const told = await decide(before, status, target);
  if (!told) {
    if (status !== "edited") show(); // what was typed stays
    return;
  }
  undos.push({ before, reviewed: told.line.reviewed });
  const [[first, lines]] = slices;
  const next = lines.findIndex((line, place) => first + place > at && !DECIDED.includes(line.status));
  if (next >= 0) return go(first + next);
  if (!done()) return load(`due=1&near=${before.index + 1}`);
  return DECIDED.includes(before.status) ? go(at + 1) : show(); // that was the last one
}

// An earlier decision comes back with whose it was and when.
async function undo() {
  const last = undos.at(-1);
  if (!last) return complain("Not done: nothing was decided on this page that could be undone.");
  const { before } = last;
  const decided = DECIDED.includes(before.status);
  const restored = decided ? { reviewer: before.reviewer, restores: before.reviewed } : {};
  const status = decided ? before.status : "machine";
  const told = await decide({ ...before, reviewed: last.reviewed }, status, before.target, restored);
  if (!told) return show();
  undos.pop();
  for (const other of undos) {
    if (other.before.id === before.id) other.reviewed = told.line.reviewed;
  }
  return load(`near=${before.index}`);
}

function edit() {
  const line = current();
  if (!line) return;
  byId("target").hidden = true;
  byId("edit").hidden = false;
  byId("save").hidden = false;
  byId("edit").value = line.target ?? "";
  byId("edit").focus();
}

function filter() {
  const index = current() ? current().index : 0;
  toReview = !toReview;
  slices.clear();
  return load(`near=${index}`);
}

function askName() {
  byId("who-name").value = reviewer;
  byId("who").showModal();
  byId("who-name").select();
}

function save() {
  return say("edited", byId("edit").value);
}

// What is typed is never lost: accepting saves it, and all else waits.
function act(key) {
  if (busy) return;
  if (!typed() || key === "?") ACTIONS[key]();
  else if (key === "a") save();
  else complain("Not done: there is an edit. Ctrl+Enter saves, Esc gives up.");
}

const ACTIONS = {
  a: () => (DECIDED.slice(0, 2).includes(current()?.status) ? go(at + 1) : say("accepted", current()?.target)),
  e: edit,
  r: () => say("rejected"),
  u: undo,
  j: () => go(at + 1),
  k: () => go(at - 1),
  f: filter,
  "?": () => byId("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  // 229: Safari's key that ends a composition
  if (event.isComposing || event.keyCode === 229 || event.altKey || document.querySelector("dialog[open]")) return;
  if (!byId("edit").hidden) {
    if (event.key === "Escape") show();
    else if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    else if (!busy) save();
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.repeat || !Object.hasOwn(ACTIONS, event.key)) return;
  event.preventDefault();
  act(event.key);
});
for (const button of document.querySelectorAll("[data-key]")) {
  button.addEventListener("click", () => {
    button.blur();
    act(button.dataset.key);
  });
}
byId("save").addEventListener("click", () => {
  if (!busy) save();
});
window.addEventListener("beforeunload", (event) => {
  if (typed()) event.preventDefault();
});
byId("rename").addEventListener("click", askName);
byId("who").addEventListener("cancel", (event) => {
  if (!named) event.preventDefault();
});
byId("who-form").addEventListener("submit", (event) => {
  event.preventDefault();
  reviewer = byId("who-name").value.trim() || reviewer;
  if (!reviewer) return;
  named = true;
  byId("who").close();
  byId("reviewer").textContent = reviewer;
  if (!byId("edit").hidden) byId("edit").focus();
});

load(`near=${document.body.dataset.start}`);
if (document.body.dataset.ask) askName();
else named = true;
})();
