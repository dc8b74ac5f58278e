// The paper's rows of a dataset, as printed.

function publishedRows(published, dataset) {
  const generative = published.generative.includes(dataset);
  const rows = generative ? published.table1 : published.table2.filter((row) => dataset in row);
  if (!rows.length) return [];
  const number = generative ? 1 : 2;
  const columns = generative ? scoresAsPrinted(rows) : accuracyAsPrinted(dataset);
  const head = [
    { text: "method" },
    { text: "LLM" },
    ...columns.map(({ text }) => ({ text, note: published.judge, number: true })),
  ];
  const cells = rows.map((row) => [row.method, row.llm, ...columns.map(({ value }) => value(row))]);
  const caption =
    `${dataset} as printed in the paper (Table ${number}), judged by GPT-3.5: ` +
    "not comparable with the numbers above, which another judge gave";
  const notes = published.notes.filter((note) => !note.startsWith(`Table ${3 - number}:`));
  return [
    make(
      "div",
      { class: "published" },
      table(caption, head, cells),
      make(
        "ul",
        { class: "notes" },
        notes.map((note) => make("li", {}, note)),
      ),
    ),
  ];
}

function scoresAsPrinted(rows) {
  const aspects = Object.keys(rows[0]).filter((name) => name !== "method" && name !== "llm");
  return aspects.map((aspect) => ({ text: aspect, value: (row) => fixed(row[aspect], 2) }));
}

function accuracyAsPrinted(dataset) {
  return [
    { text: "accuracy %", value: (row) => fixed(row[dataset].accuracy, 1) },
    { text: "score", value: (row) => fixed(row[dataset].score, 1) },
  ];
}
