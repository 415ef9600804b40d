"use strict";
// Whole completions: the list of them, and the one that is read.

const LISTED = 300;
let current = 0;

function prepareCompletions() {
  const form = byId("completion-filters");
  const masks = Object.keys(DATA.tokens.masks);
  const rollouts = [...new Set(DATA.completions.rollout)].sort((a, b) => a - b);
  form.rollout.append(
    el("option", { value: "" }, "all"),
    ...rollouts.map((n) => el("option", { value: n }, String(n))),
  );
  const colours = [
    ["p", "p"],
    ["entropy", "H"],
    ["class", "class"],
    ["kept", "what the run silenced"],
  ];
  form.colour.append(...colours.map(([value, text]) => el("option", { value }, text)));
  form.colour.append(
    ...masks.map((name) => el("option", { value: `mask ${name}` }, `what ${name} would silence`)),
  );
  form.addEventListener("input", () => {
    listCompletions();
    showCompletion(current, null);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const tip = byId("tip");
  const about = (event) => showTip(event.target.closest("[data-about]"));
  byId("completion").addEventListener("mouseover", about);
  byId("completion").addEventListener("focusin", about);
  byId("completion").addEventListener("keydown", step);
  for (const kind of ["mouseleave", "focusout"])
    byId("completion").addEventListener(kind, () => {
      tip.hidden = true;
    });
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
  const form = byId("completion-filters");
  const all = DATA.completions;
  const found = all.rollout.flatMap((rollout, i) => {
    const fits =
      (form.rollout.value === "" || rollout === Number(form.rollout.value)) &&
      (form.verdict.value === "" || String(all.correct[i]) === form.verdict.value) &&
      (!form.silenced.checked || silencedIn(i) > 0);
    return fits ? [i] : [];
  });
  const listed = found.slice(0, LISTED);
  byId("completion-count").textContent =
    `${found.length} of ${all.rollout.length} completions` +
    (found.length > LISTED ? `; the first ${LISTED} are listed` : "");
  byId("completion-list").replaceChildren(
    ...listed.map((i) => {
      const silenced = silencedIn(i);
      const step = all.step[i] === null ? "no pass" : `step ${all.step[i]}`;
      const verdict = all.correct[i] ? "✓" : "✗";
      const text = `${verdict} prompt ${all.prompt[i]}, sample ${all.sample[i]} · ${step}`;
      const button = el(
        "button",
        { type: "button", onclick: () => showCompletion(i, null) },
        text,
        silenced ? ` · ${silenced} silenced` : "",
      );
      button.dataset.number = i;
      return el("li", {}, button);
    }),
  );
  return found;
}

function showCompletion(i, place) {
  current = i;
  const all = DATA.completions;
  const tokens = DATA.tokens;
  const rows = new Map();
  for (let row = all.first[i]; row < all.first[i] + all.count[i]; row++)
    rows.set(tokens.place[row], row);
  const text = el(
    "div",
    { className: "text", tabIndex: 0 },
    ...all.pieces[i].map((piece, at) => tokenNode(piece, at, rows.get(at))),
  );
  const facts = [
    ["rollout", all.rollout[i]],
    ["prompt", all.prompt[i]],
    ["sample", all.sample[i]],
    ["step", all.step[i] ?? "no pass"],
    ["reward", format(all.reward[i])],
    ["A", format(all.advantage[i])],
    ["answer", all.answer[i]],
    ["read as", all.extracted[i] ?? "nothing"],
    ["verdict", all.correct[i] ? "right" : "wrong"],
    ["tokens", all.pieces[i].length],
  ];
  byId("completion").replaceChildren(
    el("p", { className: "question" }, all.question[i] ?? ""),
    el(
      "div",
      { className: "numbers" },
      ...facts.map(([name, value]) => number(name, String(value))),
    ),
    text,
  );
  for (const button of byId("completion-list").querySelectorAll("button")) {
    if (Number(button.dataset.number) === i) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  showLegend();
  if (place === null) return;
  byId("completions").scrollIntoView();
  text.children[place].focus();
}
