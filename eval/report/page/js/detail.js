// One sample: its frames, its question, and what the runs answered and the judges said.

async function sampleDetail(part, index, at, runs) {
  const shard = Math.floor(at / part.shard);
  const samples = await load(`${part.key}-samples-${shard}`);
  const sample = samples[at - shard * part.shard];
  if (sample?.id !== index.ids[at])
    throw new Error("index and samples do not fit: build the report again");
  return [
    make("p", { class: "soft" }, `video ${sample.video}`, sample.type ? ` · ${sample.type}` : ""),
    frameStrip(part, index, at),
    videoOf(index.paths[index.video[at]]),
    facts([
      ["question", sample.question],
      ["other wording", sample.question2],
      ["reference", sample.answer],
    ]),
    make(
      "div",
      { class: "answers" },
      runs.filter((run) => sample.runs[run]).map((run) => answerCard(part, run, sample.runs[run])),
    ),
  ];
}

function facts(pairs) {
  return make(
    "dl",
    {},
    pairs
      .filter(([, text]) => text !== null && text !== undefined)
      .flatMap(([name, text]) => [make("dt", {}, name), make("dd", { class: "text" }, text)]),
  );
}

// The frames come when their file has been read; one that cannot be read is said.
function frameStrip(part, index, at) {
  const video = index.video[at];
  const shard = index.frame_at[video];
  if (shard < 0) return null;
  const strip = make("div", {
    class: "frames",
    role: "group",
    "aria-label": "frames in order of time",
  });
  load(`${part.key}-frames-${shard}`)
    .then((frames) => {
      const jpegs = frames[index.videos[video]] ?? [];
      strip.append(
        ...jpegs.map((jpeg, number) =>
          make("img", {
            src: `data:image/jpeg;base64,${jpeg}`,
            alt: `frame ${number + 1} of ${jpegs.length}`,
          }),
        ),
      );
    })
    .catch((error) => strip.replaceWith(make("p", { class: "problem" }, error.message)));
  return strip;
}

// Not shown where it cannot be played; a page from a server may not read files of the disk.
function videoOf(path) {
  if (path === null || path === undefined) return null;
  if (path.startsWith("file:") && location.protocol !== "file:") return null;
  const player = make("video", {
    controls: true,
    preload: "none",
    src: path,
    "aria-label": "the video",
  });
  player.addEventListener("error", () => {
    player.hidden = true;
  });
  return player;
}

// A lost answer has no verdict: that it is lost is said once.
function answerCard(part, run, one) {
  const overlap = overlapText(one);
  return make(
    "article",
    { class: "answer" },
    make("h4", {}, run),
    one.lost !== null
      ? make("p", { class: "problem" }, `lost: ${one.lost}`)
      : [
          make("p", { class: "text pred" }, one.pred),
          one.pred2 === null
            ? null
            : make("p", { class: "text pred", "aria-label": "to the other wording" }, one.pred2),
        ],
    overlap ? make("p", { class: "soft" }, overlap) : null,
    one.lost === null
      ? Object.entries(one.verdicts).map(([key, verdict]) => verdictBox(part, key, verdict))
      : null,
  );
}

function overlapText(one) {
  const parts = [];
  if (one.finish === "length") parts.push("cut at the most tokens allowed");
  else if (one.finish) parts.push(`finish: ${one.finish}`);
  if (one.exact !== null) parts.push(one.exact ? "exact match" : "no exact match");
  if (one.f1 !== null) parts.push(`F1 ${one.f1.toFixed(2)}`);
  return parts.join(" · ");
}

// Of the run's judged seeds; one alone is the verdict that stands there anyhow.
function seedsText({ judged_seeds: judged, right_seeds: right }) {
  if (!(judged > 1)) return null;
  const words = isNumber(right) ? `${right} of ${judged} seeds right` : `first of ${judged} seeds`;
  return make("p", { class: "soft" }, words);
}

function verdictBox(part, key, verdict) {
  const reply = verdict.reply
    ? make(
        "details",
        {},
        make("summary", {}, "the judge’s words"),
        make("p", { class: "text" }, verdict.reply),
      )
    : null;
  return make(
    "div",
    { class: "verdict" },
    make(
      "p",
      {},
      make("span", { class: verdictClass(verdict) }, verdictText(verdict)),
      make("span", { class: "soft" }, ` ${keyLabel(part, key)}`),
    ),
    seedsText(verdict),
    verdict.reason ? make("p", { class: "soft text" }, verdict.reason) : null,
    reply,
  );
}

function verdictText(verdict) {
  if (verdict.outcome !== "ok") return verdict.outcome.replaceAll("_", " ");
  const words = verdict.correct === null ? [] : [verdict.correct ? "✓ right" : "✗ wrong"];
  if (verdict.score !== null) words.push(`score ${verdict.score}`);
  return words.join(", ");
}

function verdictClass({ outcome, correct }) {
  if (outcome !== "ok") return "missing";
  return correct === null ? "score" : correct ? "right" : "wrong";
}

// "slug aspect" -> what people call it.
function keyLabel(part, key) {
  const cut = key.lastIndexOf(" ");
  const judge = part.judges.find(({ slug }) => slug === key.slice(0, cut));
  const aspect = key.slice(cut + 1);
  return `${aspect === "qa" ? "" : `${aspect}, `}${judge?.label ?? key.slice(0, cut)}`;
}
