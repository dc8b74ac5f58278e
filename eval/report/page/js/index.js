// The columns of a part: which samples pass the filters.

const MARKS = {
  "+": ["✓", "right"],
  "-": ["✗", "wrong"],
  l: ["lost", "no answer"],
  p: ["unread", "the judge’s reply could not be read"],
  a: ["failed", "the judge could not be reached"],
  r: ["refused", "the judge refused"],
  n: ["not asked", "the judge was not asked"],
  " ": ["", "no verdict"],
};
const OUTCOMES = {
  right: ["judged right", "+"],
  wrong: ["judged wrong", "-"],
  low: ["score 0 to 2", "012"],
  high: ["score 3 to 5", "345"],
  failed: ["failed: no usable verdict", "parn"],
  lost: ["lost: no answer", "l"],
};
const FAR = 2; // scores that differ by so much disagree

function markText(character) {
  return MARKS[character] ?? [character, `score ${character}`];
}

// Which outcomes occur at all under a verdict's name.
function outcomesOf(index, key) {
  index.outcomes ??= {};
  return (index.outcomes[key] ??= findOutcomes(index, key));
}

function findOutcomes(index, key) {
  const seen = new Set();
  for (const marks of Object.values(index.marks)) {
    for (const character of marks[key] ?? "") seen.add(character);
  }
  return Object.keys(OUTCOMES).filter((name) =>
    [...OUTCOMES[name][1]].some((one) => seen.has(one)),
  );
}

// Two marks that are both verdicts and say different things.
function disagree(a, b) {
  if (isVerdict(a) && isVerdict(b) && isScore(a) === isScore(b)) {
    return isScore(a) ? Math.abs(a - b) >= FAR : a !== b;
  }
  return false;
}

function isScore(mark) {
  return mark >= "0" && mark <= "5";
}

function isVerdict(mark) {
  return mark === "+" || mark === "-" || isScore(mark);
}

// Numbers of the samples that pass all filters, in order.
// chosen: {key, type, run, outcome, a, b, judge, text}; an empty string filters nothing.
function passing(index, chosen) {
  const tests = [
    typeTest(index, chosen),
    outcomeTest(index, chosen),
    runsTest(index, chosen),
    judgesTest(index, chosen),
    textTest(index, chosen),
  ].filter(Boolean);
  const found = [];
  for (let at = 0; at < index.ids.length; at++) {
    if (tests.every((test) => test(at))) found.push(at);
  }
  return found;
}

function typeTest(index, { type }) {
  if (!type) return null;
  const wanted = index.types.indexOf(type);
  return (at) => index.type[at] === wanted;
}

// Of the chosen run, or of any run.
function outcomeTest(index, { key, run, outcome }) {
  if (!outcome) return null;
  const wanted = OUTCOMES[outcome]?.[1] ?? "";
  const columns = columnsOf(index, key, run);
  return (at) => columns.some((marks) => wanted.includes(marks[at]));
}

function columnsOf(index, key, run) {
  const runs = run ? [run] : Object.keys(index.marks);
  return runs.map((name) => index.marks[name]?.[key]).filter(Boolean);
}

function runsTest(index, { key, a, b }) {
  if (!a || !b) return null;
  const [first, second] = [index.marks[a]?.[key] ?? "", index.marks[b]?.[key] ?? ""];
  return (at) => disagree(first[at], second[at]);
}

function judgesTest(index, { key, judge, run }) {
  if (!judge) return null;
  const runs = run ? [run] : Object.keys(index.marks);
  const pairs = runs.map((name) => [
    index.marks[name]?.[key] ?? "",
    index.marks[name]?.[judge] ?? "",
  ]);
  return (at) => pairs.some(([first, second]) => disagree(first[at], second[at]));
}

function textTest(index, { text }) {
  if (!text) return null;
  const wanted = text.toLowerCase();
  index.lowerIds ??= index.ids.map((id) => id.toLowerCase());
  index.lowerVideos ??= index.videos.map((name) => name.toLowerCase());
  return (at) =>
    index.lowerIds[at].includes(wanted) || index.lowerVideos[index.video[at]].includes(wanted);
}
