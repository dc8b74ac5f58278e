// The sample browser: filters, a list in pages, and one sample in full.

const PAGE = 50; // samples a page
const MOST_SHOWN = 4; // runs side by side, unless more are asked for

function samplesSection(parts) {
  if (!parts.length) return null;
  const view = {
    parts,
    drawn: 0, // how often things were drawn
    filters: make("form", {
      class: "filters",
      role: "search",
      "aria-label": "filters",
      submit: (event) => event.preventDefault(),
    }),
    own: make("div", { class: "own" }), // controls of the part
    told: make("p", { id: "found", role: "status", "aria-live": "polite" }),
    list: make("div", { class: "list", tabindex: "-1" }),
    detail: make("article", {
      class: "detail",
      tabindex: "-1",
      "aria-label": "the chosen question",
    }),
  };
  view.box = make("div", { class: "browser" }, view.list, view.detail);
  view.partChoice = partChoice(view);
  view.filters.append(view.partChoice, view.own);
  view.fold = make("details", { class: "fold" }, make("summary", {}, "Filters"), view.filters);
  foldWhereNarrow(view.fold);
  const section = make(
    "section",
    { id: "samples", "aria-labelledby": "samples-head", keydown: (event) => onKey(view, event) },
    make("h2", { id: "samples-head" }, "Questions and answers"),
    make(
      "p",
      {},
      "With several seeds the words and verdicts are those of the first. Keys: ",
      make("kbd", {}, "j"),
      " and ",
      make("kbd", {}, "k"),
      " (in the list also the arrows) go to the next and the previous question, with the focus in " +
        "this section. The address of this page always leads back to what it shows.",
    ),
    view.fold,
    view.told,
    view.box,
  );
  addEventListener("hashchange", () => isState(location.hash) && show(view));
  show(view).then(() => location.hash.includes("=") && reveal(view));
  return section;
}

const NARROW = matchMedia("(max-width: 60rem)"); // the list above the sample, as in report.css

function foldWhereNarrow(fold) {
  const follow = () => {
    fold.open = !NARROW.matches;
  };
  NARROW.addEventListener("change", follow);
  follow();
}

// After a row was chosen by hand.
function revealTapped(view) {
  if (view.tapped && NARROW.matches) view.detail.scrollIntoView();
  view.tapped = false;
}

// A link to a sample begins there.
function reveal(view) {
  view.detail.closest("section").scrollIntoView();
  if (readState().sample) view.detail.focus({ preventScroll: true });
}

// Draw what the address says.
async function show(view) {
  const turn = ++view.drawn;
  view.box.setAttribute("aria-busy", "true");
  const wanted = readState();
  const part = view.parts.find((one) => partName(one) === wanted.part) ?? view.parts[0];
  view.partChoice.querySelector("select").value = partName(part);
  try {
    const index = await load(`${part.key}-index`);
    if (turn !== view.drawn) return; // another address by now
    const state = settled(wanted, part, index);
    view.index = index;
    if (view.part !== part) buildFilters(view, part, index);
    updateFilters(view, index, state);
    view.found = found(view, index, state);
    view.at = chosen(view, index, state);
    view.told.textContent = `${count(view.found.length)} of ${count(index.ids.length)} questions`;
    const top = view.list.querySelector(".scroll")?.scrollTop ?? 0;
    redraw(view.list, listOf(view, index, state), "[aria-current]");
    scrollList(view.list, top);
    await showDetail(view, part, index, state, turn);
    if (turn === view.drawn) revealTapped(view);
  } catch (error) {
    if (turn !== view.drawn) return;
    Object.assign(view, { part: null, index: null, asked: null });
    view.own.replaceChildren();
    view.told.textContent = "";
    view.list.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message));
    view.detail.replaceChildren();
  } finally {
    if (turn === view.drawn) view.box.removeAttribute("aria-busy");
  }
}

// New contents. A focus that was inside stays inside: on the same button while it can be pressed.
function redraw(box, contents, within) {
  const focused = box.contains(document.activeElement) ? document.activeElement : null;
  box.replaceChildren(...contents);
  if (!focused) return;
  const { keep } = focused.dataset;
  const button = [...box.querySelectorAll("button:enabled")].find((one) => one.dataset.keep === keep);
  if (keep && button) button.focus({ preventScroll: true });
  else ((within && box.querySelector(within)) ?? box).focus({ preventScroll: !within });
}

// The state with everything that is not said, or not there, at its default.
function settled(state, part, index) {
  const keys = keysOf(index);
  const key = keys.includes(state.key) ? state.key : (keys[0] ?? "");
  const known = state.show.filter((run) => part.runs.includes(run));
  const among = (name, values) => (values.includes(state[name]) ? state[name] : "");
  return {
    ...state,
    part: partName(part),
    key,
    type: among("type", index.types),
    outcome: among("outcome", outcomesOf(index, key)),
    judge: among("judge", otherJudges(index, key)),
    ...{ run: among("run", part.runs), a: among("a", part.runs), b: among("b", part.runs) },
    show: known.length ? known : part.runs.slice(0, MOST_SHOWN),
  };
}

function keysOf(index) {
  return unique(Object.values(index.marks).flatMap((marks) => Object.keys(marks)));
}

// Filtering again is saved while one only walks through what was found.
function found(view, index, state) {
  const { key, type, run, outcome, a, b, judge, text } = state;
  const asked = JSON.stringify([state.part, key, type, run, outcome, a, b, judge, text]);
  if (view.asked !== asked) {
    view.asked = asked;
    return passing(index, state);
  }
  return view.found;
}

// Number of the sample in full: the one named, or else the first of the page.
function chosen(view, index, state) {
  if (state.sample) return index.ids.indexOf(state.sample);
  return view.found[pageOf(view, state) * PAGE] ?? -1;
}

function pageOf(view, state) {
  const last = Math.max(0, Math.ceil(view.found.length / PAGE) - 1);
  if (state.page) return Math.min(Math.max(0, Number(state.page) - 1 || 0), last);
  return state.sample && view.at >= 0
    ? Math.min(Math.floor(rank(view.found, view.at) / PAGE), last)
    : 0;
}

// How many of the sorted numbers are below `at`.
function rank(numbers, at) {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < at) low = middle + 1;
    else high = middle;
  }
  return low;
}

async function showDetail(view, part, index, state, turn) {
  if (view.at < 0) {
    const words = state.sample ? `There is no question ${state.sample} in this benchmark.` : "";
    view.detail.replaceChildren(make("p", {}, words));
    return;
  }
  const body = await sampleDetail(part, index, view.at, state.show).catch((error) => [
    make("p", { class: "problem", role: "alert" }, error.message),
  ]);
  if (turn === view.drawn)
    redraw(view.detail, [detailHead(view, index, state), ...body.filter(Boolean)]);
}

function detailHead(view, index, state) {
  const step = (name, key, by) =>
    make(
      "button",
      {
        type: "button",
        "data-keep": name,
        "aria-keyshortcuts": key,
        disabled: neighbour(view, by) === undefined,
        click: () => walk(view, index, by),
      },
      name,
    );
  return make(
    "div",
    { class: "head" },
    make("h3", {}, index.ids[view.at]),
    make(
      "div",
      { class: "pager" },
      step("previous (k)", "k", -1),
      step("next (j)", "j", 1),
      make(
        "a",
        { href: hashOf({ ...state, sample: index.ids[view.at], page: "" }) },
        "link to this",
      ),
    ),
  );
}

// The next or previous of what was found; the sample itself need not be among it.
function neighbour(view, by) {
  const place = rank(view.found, view.at);
  const inside = view.found[place] === view.at;
  return view.found[by > 0 ? place + (inside ? 1 : 0) : place - 1];
}

function walk(view, index, by) {
  const at = neighbour(view, by);
  if (at !== undefined) go({ part: partName(view.part), sample: index.ids[at], page: "" });
}

function onKey(view, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select"))
    return;
  const inList = view.list.contains(event.target);
  const by = { j: 1, k: -1, ...(inList ? { ArrowDown: 1, ArrowUp: -1 } : {}) }[event.key];
  if (!by || !view.index) return;
  event.preventDefault();
  walk(view, view.index, by);
}
