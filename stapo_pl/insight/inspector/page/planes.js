"use strict";
// The plane of p and H, and the gap of the two engines.

const MARKS = [
  ["silenced", "silenced", "x", "--silenced"],
  ["kept", "rare, kept", "circle-open", "--kept"],
  ["wrong", "rare, wrong answer, kept", "triangle-up-open", "--wrong"],
];

// More points of a group would make the charts slow.
const MOST_POINTS = 3000;

function rareTrace(group, y, axis) {
  const [, name, symbol, colour] = MARKS[group];
  const rare = DATA.rare;
  const all = rare.group.flatMap((g, i) => (g === group ? [i] : []));
  const stride = Math.ceil(all.length / MOST_POINTS);
  const chosen = all.filter((_, k) => k % stride === 0);
  const count = stride > 1 ? `${chosen.length} drawn of ${all.length}` : all.length;
  return {
    x: chosen.map((i) => rare.p[i]),
    y: chosen.map((i) => y[i]),
    name: `${name} (${count})`,
    mode: "markers",
    type: "scatter",
    text: chosen.map((i) => escaped(pieceAlone(rare.piece[i]))),
    hovertemplate: `%{text}<br>p %{x:.3g}<br>${axis} %{y:.3g}<extra>${name}</extra>`,
    marker: {
      symbol,
      size: group ? 6 : 8,
      color: variable(colour),
      line: { width: 1.3, color: variable(colour) },
    },
  };
}

// Plotly reads a few tags in hover texts, so `<` is no letter there.
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
const logAxis = (title) => ({
  type: "log",
  title: { text: title },
  exponentformat: "power",
  dtick: 1,
});

function showPlane() {
  const { log_p: logs, entropy, counts } = DATA.plane;
  chart("plane-chart", () => {
    const heat = {
      type: "heatmap",
      x: logs.map((x) => 10 ** x),
      y: entropy,
      z: counts.map((row) => row.map((n) => (n ? Math.log10(n) : null))),
      customdata: counts,
      hovertemplate: "p %{x:.2g}<br>H %{y:.2g}<br>%{customdata} tokens<extra></extra>",
      hoverongaps: false,
      colorscale: [
        [0, `rgba(${variable("--tint")}, 0.25)`],
        [1, `rgba(${variable("--tint")}, 0.95)`],
      ],
      colorbar: {
        title: { text: "tokens" },
        tickvals: [0, 1, 2, 3, 4, 5, 6],
        ticktext: ["1", "10", "100", "1k", "10k", "100k", "1M"],
        thickness: 12,
      },
    };
    const thresholds = DATA.tau_h.map(([, value]) => value).sort((a, b) => a - b);
    const marks = thresholds.length
      ? [0, Math.floor(thresholds.length / 2), thresholds.length - 1].map((k) => thresholds[k])
      : [];
    const line = { color: variable("--ink"), width: 1.3 };
    const shapes = [
      {
        type: "line",
        xref: "x",
        yref: "paper",
        x0: DATA.tau_p,
        x1: DATA.tau_p,
        y0: 0,
        y1: 1,
        line,
      },
    ].concat(
      marks.map((y, k) => ({
        type: "line",
        xref: "paper",
        yref: "y",
        x0: 0,
        x1: 1,
        y0: y,
        y1: y,
        line: { ...line, dash: k === 1 ? "solid" : "dot" },
      })),
    );
    return {
      traces: [heat, ...[0, 1, 2].map((group) => rareTrace(group, DATA.rare.entropy, "H"))],
      layout: {
        shapes,
        xaxis: logAxis("p, the probability of the token"),
        yaxis: { title: { text: "H, entropy (nats)" } },
        legend: { orientation: "h", y: 1.1 },
      },
    };
  });
}

function showGaps() {
  const { others, summary, is_zero: isZero } = DATA.gaps;
  chart("gap-chart", () => ({
    traces: [
      {
        x: others.p,
        y: others.gap,
        name: `not rare (${others.p.length} drawn of ${others.of.toLocaleString("en")})`,
        mode: "markers",
        type: "scatter",
        marker: { size: 4, color: variable("--soft"), opacity: 0.45 },
        hovertemplate: "p %{x:.3g}<br>gap %{y:.3g}<extra>other</extra>",
      },
      ...[2, 1, 0].map((group) => rareTrace(group, DATA.rare.gap, "gap")),
    ],
    layout: {
      xaxis: logAxis("p, the probability of the token"),
      yaxis: {
        title: { text: "log p(sampler) − log p(trainer)" },
        tickformat: ".1~e",
        automargin: true,
      },
      legend: { orientation: "h", y: 1.1 },
    },
  }));
  const columns = [
    ["count", "number"],
    ["mean", "mean"],
    ["median", "median size"],
    ["p99", "99 % below"],
    ["largest", "largest size"],
  ];
  const head = el(
    "tr",
    {},
    el("th", {}, ""),
    ...columns.map(([, name]) => el("th", { className: "number" }, name)),
  );
  const rows = summary.map((row) =>
    el(
      "tr",
      {},
      el("td", {}, row.tokens),
      ...columns.map(([key]) =>
        el(
          "td",
          { className: "number" },
          key === "count" ? row.count.toLocaleString("en") : format(row[key]),
        ),
      ),
    ),
  );
  byId("gap-table").append(el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
  if (isZero)
    byId("gap-table").append(
      el(
        "p",
        { className: "missing" },
        "All gaps are exactly 0: the run takes the sampler's log-probabilities for the trainer's " +
          "(data.old_logprobs=sampler), so that nothing can be told apart here.",
      ),
    );
}
