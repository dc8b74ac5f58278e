// Reading the data files. Each is a script that calls redvillm(name, value), because a page opened
// from a disk may read scripts beside it but no other files. In the single-file form they are
// blocks of JSON inside the page.

const promised = new Map(); // of every shard that was asked for
const waiting = new Map(); // name -> what to call when its value arrives

window.redvillm = (name, value) => waiting.get(name)?.(value);

function load(name) {
  if (!promised.has(name)) {
    const promise = inPage(name) ?? byScript(name);
    promise.catch(() => promised.delete(name)); // may be asked for again
    promised.set(name, promise);
  }
  return promised.get(name);
}

function inPage(name) {
  const block = byId(`data-${name}`);
  return block === null ? null : new Promise((resolve) => resolve(JSON.parse(block.textContent)));
}

function byScript(name) {
  return new Promise((resolve, reject) => {
    const file = `data/${name}.js`;
    const script = document.createElement("script");
    waiting.set(name, resolve);
    script.addEventListener("error", () =>
      reject(new Error(`${file} is missing or cannot be read: copy the whole folder`)),
    );
    script.addEventListener("load", () => {
      // changes nothing where the value has arrived
      reject(new Error(`${file} is damaged: build the report again`));
      script.remove();
    });
    script.src = address(file);
    document.head.append(script);
  });
}

// The page's policy lets scripts come from data/ alone, in browsers that know such policies.
const policy = window.trustedTypes?.createPolicy("shards", {
  createScriptURL(file) {
    if (/^data\/[A-Za-z0-9-]+\.js$/.test(file)) return file;
    throw new TypeError(`not a data file: ${file}`);
  },
});

function address(file) {
  return policy ? policy.createScriptURL(file) : file;
}
