"use strict";
// Shows all parts. Without records, each part that needs them says how to get them.

showFacts();
showCurves();
if (DATA.records) {
  prepareCompletions();
  prepareRare();
  showPlane();
  showClasses();
  showFrequent();
  showGaps();
} else {
  document.querySelector("#overview .lead").remove(); // it says what a click would show
  for (const section of document.querySelectorAll("[data-needs-records]")) {
    const missing = el("p", { className: "missing" }, DATA.notes.at(-1));
    section.replaceChildren(section.querySelector("h2"), missing);
  }
}
