"use strict";
// The shares of the classes over time, and the most frequent rare tokens.

function showClasses() {
  chart("class-chart", () => ({
    traces: DATA.classes.flatMap((name, number) => {
      const curve = DATA.shares[name];
      if (!curve) return [];
      return [
        {
          x: curve[0],
          y: curve[1].map((share) => share || null),
          name: className(number) + (number ? "" : " spurious"),
          mode: "lines+markers",
          connectgaps: false,
          line: {
            color: CLASS_COLOURS[number],
            width: number ? 1.5 : 3,
            dash: number < 4 ? "solid" : "dot",
          },
          marker: { size: 6, symbol: number },
          hovertemplate: "step %{x}<br>%{y:.3%}<extra>%{fullData.name}</extra>",
        },
      ];
    }),
    layout: {
      xaxis: { title: { text: "optimizer step" } },
      yaxis: { ...logAxis("share of tokens"), tickformat: ".3~%" },
    },
  }));
}

function showFrequent() {
  const { silenced, kept } = DATA.frequent;
  for (const kind of Object.keys(silenced)) {
    const length = Math.max(silenced[kind].length, kept[kind].length);
    if (!length) continue;
    const cells = (entry) => [
      el("td", {}, entry ? el("code", {}, alone(entry[0])) : ""),
      el("td", { className: "number" }, entry ? String(entry[1]) : ""),
    ];
    const rows = Array.from({ length }, (_, k) =>
      el("tr", {}, ...cells(silenced[kind][k]), ...cells(kept[kind][k])),
    );
    const head = el(
      "tr",
      {},
      el("th", {}, "silenced"),
      el("th", { className: "number" }, "times"),
      el("th", {}, "kept"),
      el("th", { className: "number" }, "times"),
    );
    byId("frequent-tables").append(
      el(
        "div",
        {},
        el("h3", {}, kind),
        el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)),
      ),
    );
  }
  if (!byId("frequent-tables").children.length)
    byId("frequent-tables").append(
      el("p", {}, "There is no rare token with a positive advantage."),
    );
}
