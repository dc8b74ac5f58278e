// The list of what was found, in pages.

function listOf(view, index, state) {
  if (!view.found.length) return [make("p", {}, "No question passes these filters.")];
  const page = pageOf(view, state);
  const rows = view.found
    .slice(page * PAGE, (page + 1) * PAGE)
    .map((at) => listRow(view, index, state, at));
  const typed = index.types.some((type) => type !== "");
  const heads = ["question", "video", ...(typed ? ["type"] : []), ...state.show];
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
    pager(page, Math.ceil(view.found.length / PAGE)),
  ];
}

function listRow(view, index, state, at) {
  const link = make(
    "a",
    {
      href: hashOf({ ...state, sample: index.ids[at], page: "" }),
      "aria-current": at === view.at ? "true" : null,
    },
    index.ids[at],
  );
  const type = index.types[index.type[at]];
  return make(
    "tr",
    { class: at === view.at ? "current" : null },
    make("th", { scope: "row" }, link),
    make("td", {}, clamped(index.videos[index.video[at]])),
    index.types.some((one) => one !== "") ? make("td", {}, clamped(type)) : null,
    state.show.map((run) => make("td", {}, markBadge(index.marks[run]?.[state.key]?.[at] ?? " "))),
  );
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
