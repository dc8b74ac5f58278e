// The paper's rows, as printed.

function publishedTable(published, dataset) {
  return { rows: [], columns: [], number: 0 };
}
