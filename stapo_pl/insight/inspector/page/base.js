"use strict";
// What all parts of the page use. Text reaches the page by text nodes only, never as HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// Makes an element. Properties are set by their names in the DOM; strings become text nodes.
function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function format(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(digits - 2);
  return String(Number(value.toPrecision(digits)));
}

// A token that stands alone shows its spaces and line breaks.
const alone = (text) =>
  text
    .replace(/ /g, "␣")
    .replace(/\r?\n/g, "↵")
    .replace(/\t/g, "⇥")
    .replace(/[\x00-\x1f\x7f]/g, "�");
const pieceAlone = (piece) => alone(DATA.pieces[piece]);

const ARROWS = { low: "↓", high: "↑", positive: "+", negative: "−" };
// `low_p_low_H_positive` becomes `p↓ H↓ A+`, as the paper writes its classes.
function className(number) {
  const [p, , entropy, , sign] = DATA.classes[number].split("_");
  return sign ? `p${ARROWS[p]} H${ARROWS[entropy]} A${ARROWS[sign]}` : "A = 0";
}
const CLASS_COLOURS = [
  "#d1495b",
  "#8a5fbf",
  "#e58f1f",
  "#b07aa1",
  "#2a9d8f",
  "#4878a8",
  "#7fa650",
  "#6f7f8f",
  "#999999",
];

const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Charts are drawn when they come near the window (Plotly takes a tenth of a second for each) or
// the page is printed, and again when the colours of the system change.
const undrawn = new Map();
const drawings = [];
const observer = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) drawFirst(target);
  },
  { rootMargin: "100% 0px" },
);
function drawFirst(element) {
  observer.unobserve(element);
  const { draw, whenDrawn } = undrawn.get(element);
  undrawn.delete(element);
  draw();
  drawings.push(draw);
  whenDrawn(element);
}

function chart(id, make, whenDrawn = () => {}) {
  const draw = () => {
    const { traces, layout } = make();
    const axis = {
      gridcolor: variable("--line"),
      zerolinecolor: variable("--line"),
      linecolor: variable("--line"),
    };
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis/.test(key))) {
      layout[name] = { ...axis, ...layout[name] };
    }
    Plotly.react(
      id,
      traces,
      {
        paper_bgcolor: "rgba(0,0,0,0)",
        plot_bgcolor: "rgba(0,0,0,0)",
        margin: { l: 70, r: 20, t: 20, b: 50 },
        font: {
          color: variable("--ink"),
          size: 13,
          family: getComputedStyle(document.body).fontFamily,
        },
        hoverlabel: { bgcolor: variable("--panel"), font: { color: variable("--ink") } },
        ...layout,
      },
      { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] },
    );
  };
  undrawn.set(byId(id), { draw, whenDrawn });
  observer.observe(byId(id));
}
addEventListener("beforeprint", () => [...undrawn.keys()].forEach(drawFirst));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  drawings.forEach((draw) => draw()),
);

const ALTERNATIVES_SHOWN = 5;
