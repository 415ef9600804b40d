"use strict";
// Whole completions, in which each token is coloured by one of its numbers.

const LISTED = 300;
const TIP_PARTS = [["p", "p"], ["entropy", "H"], ["advantage", "A"], ["ratio", "ratio"], ["gap", "sampler − trainer"]];
let current = 0;

function prepareCompletions() {
  const form = byId("completion-filters"), masks = Object.keys(DATA.tokens.masks);
  const rollouts = [...new Set(DATA.completions.rollout)].sort((a, b) => a - b);
  form.rollout.append(el("option", { value: "" }, "all"), ...rollouts.map((n) => el("option", { value: n }, String(n))));
  const colours = [["p", "p"], ["entropy", "H"], ["class", "class"], ["kept", "what the run silenced"]];
  form.colour.append(...colours.map(([value, text]) => el("option", { value }, text)));
  form.colour.append(...masks.map((name) => el("option", { value: `mask ${name}` }, `what ${name} would silence`)));
  form.addEventListener("input", () => { listCompletions(); showCompletion(current, null); });
  form.addEventListener("submit", (event) => event.preventDefault());
  const tip = byId("tip");
  const about = (event) => showTip(event.target.closest("[data-about]"));
  byId("completion").addEventListener("mouseover", about);
  byId("completion").addEventListener("focusin", about);
  byId("completion").addEventListener("keydown", step);
  for (const kind of ["mouseleave", "focusout"]) byId("completion").addEventListener(kind, () => { tip.hidden = true; });
  const withSilenced = DATA.completions.first.findIndex((_, i) => silencedIn(i) > 0);
  current = Math.max(withSilenced, 0);
  listCompletions();
  showCompletion(current, null);
}

// The arrows move from token to token, whose numbers are then shown.
function step(event) {
  const side = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
  const text = byId("completion").querySelector(".text");
  if (!side || !text.contains(event.target)) return;
  const next = event.target === text ? text.firstElementChild : event.target[side];
  next?.focus();
  event.preventDefault();
}

function silencedIn(i) {
  const { first, count } = DATA.completions;
  return DATA.tokens.kept.slice(first[i], first[i] + count[i]).filter((kept) => kept === 0).length;
}

// The list has the completions of the rollout that was clicked.
function showRollout(rollout) {
  const form = byId("completion-filters");
  form.reset();
  form.rollout.value = String(rollout);
  const found = listCompletions();
  if (found.length) showCompletion(found[0], null);
  byId("completions").scrollIntoView();
}

function listCompletions() {
  const form = byId("completion-filters"), all = DATA.completions;
  const found = all.rollout.flatMap((rollout, i) => {
    const fits = (form.rollout.value === "" || rollout === Number(form.rollout.value)) &&
      (form.verdict.value === "" || String(all.correct[i]) === form.verdict.value) &&
      (!form.silenced.checked || silencedIn(i) > 0);
    return fits ? [i] : [];
  });
  const listed = found.slice(0, LISTED);
  byId("completion-count").textContent = `${found.length} of ${all.rollout.length} completions` +
    (found.length > LISTED ? `; the first ${LISTED} are listed` : "");
  byId("completion-list").replaceChildren(...listed.map((i) => {
    const silenced = silencedIn(i), step = all.step[i] === null ? "no pass" : `step ${all.step[i]}`;
    const text = `${all.correct[i] ? "✓" : "✗"} prompt ${all.prompt[i]}, sample ${all.sample[i]} · ${step}`;
    const button = el("button", { type: "button", onclick: () => showCompletion(i, null) }, text, silenced ? ` · ${silenced} silenced` : "");
    button.dataset.number = i;
    return el("li", {}, button);
  }));
  return found;
}

// Returns the background of a token, and the marks that say the same without colour.
function look(row) {
  const colour = byId("completion-filters").colour.value, tokens = DATA.tokens;
  const tint = (share) => `rgba(${variable("--tint")}, ${(0.65 * Math.min(Math.max(share, 0), 1)).toFixed(3)})`;
  if (colour === "p") return { background: tint(-Math.log10(Math.max(tokens.p[row], 1e-12)) / 4) };
  if (colour === "entropy") return { background: tint(tokens.entropy[row] / 2) };
  if (colour === "class") return { background: `${CLASS_COLOURS[tokens.class[row]]}55` };
  const mask = colour === "kept" ? tokens.kept : tokens.masks[colour.slice(5)];
  return { isDropped: mask[row] === 0 };
}

function showCompletion(i, place) {
  current = i;
  const all = DATA.completions, tokens = DATA.tokens, rows = new Map();
  for (let row = all.first[i]; row < all.first[i] + all.count[i]; row++) rows.set(tokens.place[row], row);
  const text = el("div", { className: "text", tabIndex: 0 }, ...all.pieces[i].map((piece, at) => tokenNode(piece, at, rows.get(at))));
  const facts = [["rollout", all.rollout[i]], ["prompt", all.prompt[i]], ["sample", all.sample[i]], ["step", all.step[i] ?? "no pass"],
    ["reward", format(all.reward[i])], ["A", format(all.advantage[i])], ["answer", all.answer[i]], ["read as", all.extracted[i] ?? "nothing"],
    ["verdict", all.correct[i] ? "right" : "wrong"], ["tokens", all.pieces[i].length]];
  byId("completion").replaceChildren(
    el("p", { className: "question" }, all.question[i] ?? ""),
    el("div", { className: "numbers" }, ...facts.map(([name, value]) => number(name, String(value)))), text);
  for (const button of byId("completion-list").querySelectorAll("button")) {
    if (Number(button.dataset.number) === i) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  showLegend();
  if (place === null) return;
  byId("completions").scrollIntoView();
  text.children[place].focus();
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
  const tokens = DATA.tokens, { background, isDropped } = look(row);
  if (background) node.style.background = background;
  if (isDropped) node.className += " dropped";
  if (tokens.p[row] < DATA.tau_p) { node.className += " rare"; node.tabIndex = 0; }
  if (tokens.kept[row] === 0) { node.className += " silenced"; node.tabIndex = 0; }
  const numbers = TIP_PARTS.map(([column, name]) => `${name} ${format(tokens[column][row])}`);
  const verdict = tokens.kept[row] === 0 ? "silenced" : "kept";
  node.dataset.about = `${alone(raw)}  (${DATA.ids[piece]}, place ${at})\n${numbers.join("\n")}\n${className(tokens.class[row])}, ${verdict}`;
  return node;
}

function showTip(node) {
  const tip = byId("tip");
  tip.hidden = !node;
  if (!node) return;
  tip.textContent = node.dataset.about;
  const box = node.getBoundingClientRect();
  tip.style.left = `${Math.min(box.left, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${box.bottom + 6 + tip.offsetHeight > innerHeight ? box.top - tip.offsetHeight - 6 : box.bottom + 6}px`;
}

function showLegend() {
  const colour = byId("completion-filters").colour.value, tint = variable("--tint");
  const sample = (className, text, background = "") => {
    const node = el("span", { className }, text);
    node.style.background = background;
    return node;
  };
  const steps = { p: ["1", "0.1", "0.01", "0.001", "≤ 1e-4"], entropy: ["0", "0.5", "1", "1.5", "≥ 2 nats"] }[colour];
  const items = [sample("token silenced", "silenced"), sample("token rare", "rare"), sample("token unseen", "no numbers")];
  if (steps) items.push(el("span", {}, `${colour === "p" ? "p" : "H"}: `, ...steps.map((text, k) => sample("token", text, `rgba(${tint}, ${0.65 * k / 4})`))));
  else if (colour === "class") items.push(...DATA.classes.map((_, n) => sample("token", className(n), `${CLASS_COLOURS[n]}55`)));
  else items.push(sample("token dropped", colour === "kept" ? "silenced by the run" : `${colour.slice(5)} would silence`));
  byId("legend").replaceChildren(...items);
}
