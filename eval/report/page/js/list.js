// The list of what was found, in pages.

function listOf(view, index, state) {
  if (!view.found.length) return [make("p", {}, "No question passes these filters.")];
  const page = pageOf(view, state);
  const rows = view.found
    .slice(page * PAGE, (page + 1) * PAGE)
    .map((at) => listRow(view, index, state, at));
  const typed = index.types.some((type) => type !== "");
  const videos = withVideos(state) ? ["video"] : [];
  const pages = Math.ceil(view.found.length / PAGE);
  const heads = ["question", ...videos, ...(typed ? ["type"] : []), ...state.show];
  return [
    make(
      "div",
      { class: "scroll", role: "region", tabindex: "0", "aria-label": "list of questions" },
      make(
        "table",
        {},
        make(
          "caption",
          { class: "unseen" },
          "Questions that pass the filters, with the verdict on each run",
        ),
        make(
          "thead",
          {},
          make(
            "tr",
            {},
            heads.map((text) => make("th", { scope: "col" }, clamped(text))),
          ),
        ),
        make("tbody", {}, rows),
      ),
    ),
    ...(pages > 1 ? [pager(page, pages)] : []),
  ];
}

// With more runs there is no room; the sample in full names its video.
function withVideos(state) {
  return state.show.length <= 2;
}

function listRow(view, index, state, at) {
  const href = hashOf({ ...state, sample: index.ids[at], page: "" });
  const link = make(
    "a",
    {
      href,
      "aria-current": at === view.at ? "true" : null,
    },
    index.ids[at],
  );
  const type = index.types[index.type[at]];
  return make(
    "tr",
    { class: at === view.at ? "current" : null, click: (event) => openRow(view, href, event) },
    make("th", { scope: "row" }, link),
    withVideos(state) ? make("td", {}, clamped(index.videos[index.video[at]])) : null,
    index.types.some((one) => one !== "") ? make("td", {}, clamped(type)) : null,
    state.show.map((run) => make("td", {}, markBadge(index.marks[run]?.[state.key]?.[at] ?? " "))),
  );
}

// Anywhere in the row. Where the sample stands below the list, the page goes there.
function openRow(view, href, event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  view.tapped = true;
  if (location.hash === href) revealTapped(view);
  else location.hash = href;
}

// Long names take two lines here, and are read in full when pointed at.
function clamped(text) {
  return make("span", { class: "clamped", title: text }, text);
}

function markBadge(character) {
  const [text, meaning] = markText(character);
  const look =
    character === "+"
      ? "right"
      : character === "-"
        ? "wrong"
        : isScore(character)
          ? "score"
          : "missing";
  return make(
    "span",
    { class: look, title: meaning, role: text ? "img" : null, "aria-label": text ? meaning : null },
    text,
  );
}

function pager(page, pages) {
  const to = (name, target, able) =>
    make(
      "button",
      {
        type: "button",
        "data-keep": name,
        disabled: !able,
        click: () => go({ page: String(target + 1), sample: "" }),
      },
      name,
    );
  return make(
    "nav",
    { class: "pager", "aria-label": "pages of the list" },
    to("previous page", page - 1, page > 0),
    make("span", {}, `page ${count(page + 1)} of ${count(pages)}`),
    to("next page", page + 1, page + 1 < pages),
  );
}

// The list stays where it was, as long as the chosen row is in sight there.
function scrollList(list, top) {
  const [box, row] = [list.querySelector(".scroll"), list.querySelector("tr.current")];
  if (!box || !row) return;
  const highest = row.offsetTop - list.querySelector("thead").offsetHeight;
  const lowest = row.offsetTop + row.offsetHeight - box.clientHeight;
  box.scrollTop = highest < lowest ? highest : Math.min(Math.max(top, lowest), highest);
}
