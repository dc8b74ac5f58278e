// What is looked at is the part of the address after #, and nothing else: a link restores it, and
// so do back and forward.

const NOTHING = {
  part: "",
  key: "",
  type: "",
  run: "",
  outcome: "",
  a: "",
  b: "",
  judge: "",
  text: "",
  sample: "",
  page: "",
  show: [],
};

let last = ""; // the newest such address: a link to a heading (#cost) changes nothing

function readState() {
  if (isState(location.hash)) last = location.hash;
  const given = new URLSearchParams(last.slice(1));
  const state = { ...NOTHING, show: given.getAll("show") };
  for (const name of Object.keys(NOTHING)) {
    if (name !== "show" && given.has(name)) state[name] = given.get(name);
  }
  return state;
}

function hashOf(state) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    for (const one of [value].flat()) if (one !== "") given.append(name, one);
  }
  return `#${given}`.replaceAll("%2F", "/");
}

// A new entry of the history; "hashchange" draws it.
function go(changes) {
  location.hash = hashOf({ ...readState(), ...changes });
}

// The same without an entry of its own, as while one types.
function amend(changes) {
  location.replace(hashOf({ ...readState(), ...changes }));
}

// Links to headings (#results) say nothing about the sample browser.
function isState(hash) {
  return hash === "" || hash === "#" || hash.includes("=");
}
