// The controls above the list. They are made once a part, so that the focus stays where it is.

function buildFilters(view, part, index) {
  const keys = keysOf(index);
  const set = (name) => (value) => go({ [name]: value, sample: "", page: "" });
  const runs = part.runs.map((name) => [name, name]);
  const types = index.types.filter((type) => type !== "").map((type) => [type, type]);
  view.part = part;
  view.controls = {
    part: choice(
      "benchmark",
      "part",
      view.parts.map((one) => [one.key, `${one.dataset}, ${one.split}`]),
      part.key,
      (value) => go({ ...NOTHING, part: value }),
    ),
    key: choice(
      "verdict",
      "key",
      keys.map((key) => [key, keyLabel(part, key)]),
      "",
      (value) => go({ key: value, outcome: "", judge: "", sample: "", page: "" }),
    ),
    type: types.length ? choice("type", "type", [["", "any"], ...types], "", set("type")) : null,
    run: choice("run", "run", [["", "any"], ...runs], "", set("run")),
    outcome: choice("with the verdict", "outcome", [["", "any"]], "", set("outcome")),
    a:
      runs.length > 1
        ? choice("verdicts differ between", "a", [["", "–"], ...runs], "", set("a"))
        : null,
    b: runs.length > 1 ? choice("and", "b", [["", "–"], ...runs], "", set("b")) : null,
    judge: choice("judge disagrees with", "judge", [["", "–"]], "", set("judge")),
    text: searchBox(),
  };
  view.filters.replaceChildren(
    ...Object.values(view.controls).filter(Boolean),
    shownRuns(view, part),
    make(
      "button",
      { type: "button", click: () => go({ ...NOTHING, part: part.key }) },
      "clear filters",
    ),
    make("p", { class: "soft hint" }, `Two scores differ when they are ${FAR} or more apart.`),
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
  const [aspect] = state.key.split(" ").slice(-1);
  const others = keysOf(index).filter((key) => key !== state.key && key.endsWith(` ${aspect}`));
  setOptions(controls.outcome, [
    ["", "any"],
    ...outcomesOf(index, state.key).map((name) => [name, OUTCOMES[name][0]]),
  ]);
  setOptions(controls.judge, [["", "–"], ...others.map((key) => [key, keyLabel(part, key)])]);
  controls.judge.hidden = others.length === 0;
  for (const [name, control] of Object.entries(controls)) {
    const field = control?.querySelector("select, input");
    if (field && field.value !== state[name]) field.value = state[name];
  }
  for (const box of view.boxes) box.checked = state.show.includes(box.value);
}

function setOptions(control, options) {
  const select = control.querySelector("select");
  const same =
    [...select.options].map((one) => one.value).join("\n") ===
    options.map(([value]) => value).join("\n");
  if (!same)
    select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
}
