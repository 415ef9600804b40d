"use strict";
// The lists of rare tokens: context, token, numbers and alternatives, as the paper prints them.

const GROUPS = [
  ["silenced", "Silenced"],
  ["kept", "Rare, kept"],
  ["wrong", "Rare in wrong answers, kept"],
];
const PAGE = 12;
const shownCards = [PAGE, PAGE, PAGE];

function prepareRare() {
  const form = byId("rare-filters");
  const used = [...new Set(DATA.rare.class)].sort((a, b) => a - b);
  form.class.append(
    el("option", { value: "" }, "all"),
    ...used.map((n) => el("option", { value: n }, className(n))),
  );
  for (const [group, title] of GROUPS) {
    const heading = el(
      "h3",
      {},
      el("span", { className: "title" }, title),
      " ",
      el("span", { className: "count" }),
    );
    byId("rare-lists").append(
      el("div", { className: `${group}-list` }, heading, el("div", { className: "cards" })),
    );
  }
  const change = () => {
    shownCards.fill(PAGE);
    showRare();
  };
  form.addEventListener("input", change);
  form.addEventListener("reset", () => setTimeout(change));
  form.addEventListener("submit", (event) => event.preventDefault());
  showRare();
}

// Returns a test of a number for a text such as `12` or `10-20`. Anything else fits every number.
function range(text) {
  const [, first, last] = text.trim().match(/^(\d+)(?:\s*[-–]\s*(\d+))?$/) || [];
  if (first === undefined) return () => true;
  return (value) => value >= Number(first) && value <= Number(last ?? first);
}

function showRare() {
  const form = byId("rare-filters"),
    rare = DATA.rare;
  const inSteps = range(form.step.value),
    inPrompts = range(form.prompt.value),
    wanted = form.token.value;
  const fits = (i) =>
    (form.class.value === "" || rare.class[i] === Number(form.class.value)) &&
    inSteps(rare.step[i]) &&
    inPrompts(rare.prompt[i]) &&
    (DATA.pieces[rare.piece[i]].includes(wanted) || pieceAlone(rare.piece[i]).includes(wanted));
  const key =
    form.sort.value === "token"
      ? (i) => DATA.pieces[rare.piece[i]]
      : (i) => rare[form.sort.value][i];
  const sign = form.descending.checked ? -1 : 1;
  const order = (a, b) => sign * (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : a - b);
  GROUPS.forEach(([group], number) => {
    const all = rare.group.flatMap((g, i) => (g === number ? [i] : []));
    const found = all.filter(fits).sort(order);
    const list = document.querySelector(`.${group}-list`);
    list.querySelector(".count").textContent = `(${found.length} of ${all.length})`;
    const cards = found.slice(0, shownCards[number]).map(card);
    if (found.length > cards.length) {
      const more = () => {
        shownCards[number] += 4 * PAGE;
        showRare();
      };
      cards.push(
        el(
          "button",
          { type: "button", onclick: more },
          `Show more of ${found.length - cards.length}`,
        ),
      );
    }
    list
      .querySelector(".cards")
      .replaceChildren(...(cards.length ? cards : [el("p", { className: "soft" }, "None.")]));
  });
}

const number = (name, value) => el("span", {}, el("i", {}, `${name} `), value);

function card(i) {
  const rare = DATA.rare,
    isSilenced = rare.group[i] === 0;
  const token = el(
    "span",
    { className: `token rare${isSilenced ? " silenced" : ""}` },
    pieceAlone(rare.piece[i]),
  );
  const around = (text) => el("span", { className: "around" }, text);
  const alternatives = rare.alternatives[i]
    .slice(0, ALTERNATIVES_SHOWN)
    .map((piece, k) =>
      el(
        "li",
        { className: piece === rare.piece[i] ? "drawn" : "" },
        el("code", {}, pieceAlone(piece)),
        ` ${format(rare.probabilities[i][k])}`,
      ),
    );
  const open = () => showCompletion(rare.shown[i], rare.place[i]);
  return el(
    "div",
    { className: "card" },
    el("p", { className: "context" }, around(rare.before[i]), token, around(rare.after[i])),
    el(
      "div",
      { className: "numbers" },
      number("p", format(rare.p[i])),
      number("H", format(rare.entropy[i])),
      number("A", format(rare.advantage[i])),
      number("ratio", format(rare.ratio[i])),
      number("class", className(rare.class[i])),
    ),
    el("ul", { className: "alternatives", title: "the most likely tokens here" }, ...alternatives),
    el(
      "div",
      { className: "numbers soft" },
      `step ${rare.step[i]} · prompt ${rare.prompt[i]}, sample ${rare.sample[i]}, token ${rare.place[i]}`,
    ),
    rare.shown[i] < 0
      ? null
      : el("button", { type: "button", className: "open", onclick: open }, "Show the completion"),
  );
}
