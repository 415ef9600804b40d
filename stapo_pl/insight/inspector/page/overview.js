"use strict";
// The facts of the run, and its curves with the rollouts on one axis of time.

const NAMES = {
  "reward/mean": "reward",
  "policy/entropy": "entropy (nats)",
  "policy/grad_norm": "gradient norm",
  "policy/silenced_fraction": "silenced share",
};
// So many bands of rollouts are drawn; more would only be grey.
const MOST_BANDS = 150;

const rolloutAt = (step) => DATA.rollouts.find(([, first, last]) => first <= step && step <= last);

function showFacts() {
  for (const [name, value] of DATA.facts || [])
    byId("facts").append(el("dt", {}, name), el("dd", {}, value));
  for (const note of DATA.notes) byId("notes").append(el("li", {}, note));
}

function showCurves() {
  const names = Object.keys(NAMES).filter((name) => DATA.curves[name]);
  if (!names.length) {
    byId("curves").className = "missing";
    byId("curves").textContent =
      "The run has no curves here: it logs neither TensorBoard's files nor metrics.csv " +
      "(logger=tensorboard,csv).";
    return;
  }
  const colours = ["#4878a8", "#2a9d8f", "#e58f1f", "#d1495b"];
  const make = () => {
    const traces = names.map((name, row) => {
      const [x, y] = DATA.curves[name];
      const about = x.map(
        (step) => (rolloutAt(step) ? `rollout ${rolloutAt(step)[0]}, ` : "") + `step ${step}`,
      );
      return {
        x,
        y,
        text: about,
        hovertemplate: `%{text}<br>${NAMES[name]} %{y:.4g}<extra></extra>`,
        mode: "lines+markers",
        xaxis: "x",
        yaxis: `y${row + 1}`,
        line: { color: colours[row], width: 1.6 },
        marker: { size: 5 },
      };
    });
    const layout = {
      showlegend: false,
      hovermode: "closest",
      shapes: bands(),
      xaxis: { title: { text: "optimizer step" }, anchor: `y${names.length}` },
    };
    names.forEach((name, row) => {
      const height = 1 / names.length;
      layout[`yaxis${row + 1}`] = {
        title: { text: NAMES[name], font: { size: 12 } },
        domain: [1 - (row + 1) * height + 0.025, 1 - row * height - 0.01],
        tickformat: name.endsWith("fraction") ? ".3~%" : undefined,
        nticks: 5,
        automargin: true,
      };
    });
    return { traces, layout };
  };
  chart("curves", make, (drawn) => drawn.on("plotly_click", showClicked));
}

function showClicked({ points }) {
  const rollout = rolloutAt(points[0].x);
  if (rollout && DATA.records) showRollout(rollout[0]);
}

// Every second rollout has a shaded band.
function bands() {
  if (DATA.rollouts.length > MOST_BANDS) return [];
  return DATA.rollouts
    .filter(([number]) => number % 2)
    .map(([, first, last]) => ({
      type: "rect",
      xref: "x",
      yref: "paper",
      x0: first - 0.5,
      x1: last + 0.5,
      y0: 0,
      y1: 1,
      layer: "below",
      line: { width: 0 },
      fillcolor: variable("--panel"),
    }));
}
