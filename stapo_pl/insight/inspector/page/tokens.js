"use strict";
// The tokens of a completion: their colours, their marks, and the numbers under the mouse.

const TIP_PARTS = [
  ["p", "p"],
  ["entropy", "H"],
  ["advantage", "A"],
  ["ratio", "ratio"],
  ["gap", "sampler − trainer"],
];

// Returns the background of a token, and the marks that say the same without colour.
function look(row) {
  const colour = byId("completion-filters").colour.value;
  const tokens = DATA.tokens;
  const tint = (share) =>
    `rgba(${variable("--tint")}, ${(0.65 * Math.min(Math.max(share, 0), 1)).toFixed(3)})`;
  if (colour === "p") return { background: tint(-Math.log10(Math.max(tokens.p[row], 1e-12)) / 4) };
  if (colour === "entropy") return { background: tint(tokens.entropy[row] / 2) };
  if (colour === "class") return { background: `${CLASS_COLOURS[tokens.class[row]]}55` };
  const mask = colour === "kept" ? tokens.kept : tokens.masks[colour.slice(5)];
  return { isDropped: mask[row] === 0 };
}

function tokenNode(piece, at, row) {
  const raw = DATA.pieces[piece];
  const node = el("span", { className: "token", tabIndex: -1 });
  // A line break is shown as a sign in front of it.
  raw.split(/(\n)/).forEach((part) => {
    if (part === "\n") node.append(el("span", { className: "break" }, "↵"), "\n");
    else if (part) node.append(part);
  });
  if (row === undefined) {
    node.className += " unseen";
    return node;
  }
  const tokens = DATA.tokens;
  const { background, isDropped } = look(row);
  if (background) node.style.background = background;
  if (isDropped) node.className += " dropped";
  if (tokens.p[row] < DATA.tau_p) {
    node.className += " rare";
    node.tabIndex = 0;
  }
  if (tokens.kept[row] === 0) {
    node.className += " silenced";
    node.tabIndex = 0;
  }
  const numbers = TIP_PARTS.map(([column, name]) => `${name} ${format(tokens[column][row])}`);
  const verdict = tokens.kept[row] === 0 ? "silenced" : "kept";
  const name = `${alone(raw)}  (${DATA.ids[piece]}, place ${at})`;
  node.dataset.about = [name, ...numbers, `${className(tokens.class[row])}, ${verdict}`].join("\n");
  return node;
}

function showTip(node) {
  const tip = byId("tip");
  tip.hidden = !node;
  if (!node) return;
  tip.textContent = node.dataset.about;
  const box = node.getBoundingClientRect();
  tip.style.left = `${Math.min(box.left, innerWidth - tip.offsetWidth - 8)}px`;
  const hasRoom = box.bottom + 6 + tip.offsetHeight <= innerHeight;
  tip.style.top = `${hasRoom ? box.bottom + 6 : box.top - tip.offsetHeight - 6}px`;
}

function showLegend() {
  const colour = byId("completion-filters").colour.value;
  const tint = variable("--tint");
  const sample = (className, text, background = "") => {
    const node = el("span", { className }, text);
    node.style.background = background;
    return node;
  };
  const steps = {
    p: ["1", "0.1", "0.01", "0.001", "≤ 1e-4"],
    entropy: ["0", "0.5", "1", "1.5", "≥ 2 nats"],
  }[colour];
  const items = [
    sample("token silenced", "silenced"),
    sample("token rare", "rare"),
    sample("token unseen", "no numbers"),
  ];
  if (steps)
    items.push(
      el(
        "span",
        {},
        `${colour === "p" ? "p" : "H"}: `,
        ...steps.map((text, k) => sample("token", text, `rgba(${tint}, ${(0.65 * k) / 4})`)),
      ),
    );
  else if (colour === "class")
    items.push(
      ...DATA.classes.map((_, n) => sample("token", className(n), `${CLASS_COLOURS[n]}55`)),
    );
  else
    items.push(
      sample(
        "token dropped",
        colour === "kept" ? "silenced by the run" : `${colour.slice(5)} would silence`,
      ),
    );
  byId("legend").replaceChildren(...items);
}
