// One order and one mark of each run, for every chart and legend of the page.

let order = [];

function orderRuns(report) {
  order = unique([
    ...(report.run_order ?? []),
    ...report.tables.flatMap((one) => one.rows.map((row) => row.name)),
    ...Object.keys(report.curves),
  ]);
}

// Those of the page's first runs that are among `names`: more marks cannot be told apart.
function markedRuns(names) {
  return order.slice(0, MOST_RUNS).filter((name) => names.includes(name));
}

function numberOf(name) {
  return order.indexOf(name);
}

// Rows of a table in the order of the page.
function inOrder(rows) {
  return [...rows].sort((one, other) => numberOf(one.name) - numberOf(other.name));
}
