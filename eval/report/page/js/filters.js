// The controls above the list. They are made once a part, so that the focus stays where it is; the
// choice of the part is made once for all, and works where a part cannot be read.

function partChoice(view) {
  const options = view.parts.map((part) => [partName(part), `${part.dataset}, ${part.split}`]);
  return choice("benchmark", "part", options, "", (value) => go({ ...NOTHING, part: value }));
}

// What links call it: keys may change when a report is built again.
function partName({ dataset, split }) {
  return `${dataset}/${split}`;
}

function buildFilters(view, part, index) {
  const keys = keysOf(index);
  const set = (name) => (value) => go({ [name]: value, sample: "", page: "" });
  const runs = part.runs.map((name) => [name, name]);
  const types = index.types.filter((type) => type !== "").map((type) => [type, type]);
  view.part = part;
  view.controls = {
    key: choice(
      "verdict",
      "key",
      keys.map((key) => [key, keyLabel(part, key)]),
      "",
      (value) => go({ key: value, outcome: "", judge: "", sample: "", page: "" }),
    ),
    type: types.length ? choice("type", "type", [["", "any"], ...types], "", set("type")) : null,
    outcome: choice("with the verdict", "outcome", [["", "any"]], "", set("outcome")),
    judge: choice("judge disagrees with", "judge", [["", "–"]], "", set("judge")),
    run: choice("… of the run", "run", [["", "any"], ...runs], "", set("run")),
    a:
      runs.length > 1
        ? choice("verdicts differ between", "a", [["", "–"], ...runs], "", set("a"))
        : null,
    b: runs.length > 1 ? choice("and", "b", [["", "–"], ...runs], "", set("b")) : null,
    text: searchBox(),
  };
  view.far = make("p", { class: "soft hint" }, `Two scores differ when they are ${FAR} or more apart.`);
  view.own.replaceChildren(
    ...Object.values(view.controls).filter(Boolean),
    shownRuns(view, part),
    make(
      "button",
      { type: "button", click: () => go({ ...NOTHING, part: partName(part) }) },
      "clear filters",
    ),
    view.far,
  );
}

function searchBox() {
  const input = make("input", {
    type: "search",
    name: "text",
    spellcheck: "false",
    autocomplete: "off",
    input: () => amend({ text: input.value, sample: "", page: "" }),
  });
  return make("label", { class: "control" }, make("span", {}, "id or video contains"), input);
}

// Which runs stand side by side.
function shownRuns(view, part) {
  const ticked = () => part.runs.filter((_, at) => boxes[at].checked);
  const boxes = part.runs.map((run) =>
    make("input", {
      type: "checkbox",
      name: "show",
      value: run,
      change: () => go({ show: ticked() }),
    }),
  );
  view.boxes = boxes;
  return make(
    "fieldset",
    { class: "shown" },
    make("legend", {}, "runs side by side"),
    part.runs.map((run, at) => make("label", {}, boxes[at], ` ${run}`)),
  );
}

function updateFilters(view, index, state) {
  const { controls, part } = view;
  const outcomes = outcomesOf(index, state.key);
  const others = otherJudges(index, state.key);
  setOptions(controls.outcome, [
    ["", "any"],
    ...outcomes.map((name) => [name, OUTCOMES[name][0]]),
  ]);
  setOptions(controls.judge, [["", "–"], ...others.map((key) => [key, keyLabel(part, key)])]);
  controls.judge.hidden = others.length === 0;
  for (const [name, control] of Object.entries(controls)) {
    const field = control?.querySelector("select, input");
    if (field && field.value !== state[name]) field.value = state[name];
    if (field) field.disabled = countsForNothing(name, state);
  }
  for (const box of view.boxes) box.checked = state.show.includes(box.value);
  view.far.hidden = !outcomes.some((name) => name === "low" || name === "high");
  const used = filtersInUse(state);
  view.fold.firstChild.textContent = used ? `Filters (${used} in use)` : "Filters";
}

// The same aspect by other judges.
function otherJudges(index, key) {
  const [aspect] = key.split(" ").slice(-1);
  return keysOf(index).filter((other) => other !== key && other.endsWith(` ${aspect}`));
}

// A run filters nothing without a verdict to find, the second of two runs nothing without a first.
function countsForNothing(name, { outcome, judge, a }) {
  return (name === "run" && !outcome && !judge) || (name === "b" && !a);
}

function filtersInUse({ type, outcome, judge, a, b, text }) {
  return [type, outcome, judge, a && b, text].filter(Boolean).length;
}

function setOptions(control, options) {
  const select = control.querySelector("select");
  const same =
    [...select.options].map((one) => one.value).join("\n") ===
    options.map(([value]) => value).join("\n");
  if (!same)
    select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
}
