"use strict";
const divs = [...document.querySelectorAll("[data-figure]")];
const dark = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)");
const printed = { ink: "#000000", line: "#d0d0d0" };

function screenColours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { ink: of("--ink"), line: of("--line") };
}

function coloured({ ink, line }) {
  const axes = { gridcolor: line, linecolor: line, tickcolor: line };
  const named = ["xaxis", "yaxis"].flatMap((axis) =>
    Object.entries(axes).map(([key, value]) => [`${axis}.${key}`, value]));
  return { "font.color": ink, ...Object.fromEntries(named) };
}

function paint(colours, size) {
  divs.forEach((div) => Plotly.relayout(div, { ...coloured(colours), ...size }));
}

async function draw() {
  for (const div of divs) {
    const figure = JSON.parse(document.getElementById(div.dataset.figure).textContent);
    figure.layout.title = undefined; // the page has a heading
    figure.layout.margin.t = 16;
    if (touch.matches) figure.layout.dragmode = false; // a finger scrolls the page
    await Plotly.newPlot(div, figure.data, figure.layout, { responsive: true, displayModeBar: false });
  }
  paint(screenColours(), {});
}

draw();
dark.addEventListener("change", () => paint(screenColours(), {}));
addEventListener("beforeprint", () => paint(printed, { width: 680 }));
addEventListener("afterprint", () => paint(screenColours(), { width: null, autosize: true }));

function key(row, column) {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent;
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function compare(a, b) {
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}

function sort(table, column, header) {
  const up = header.getAttribute("aria-sort") !== "ascending";
  table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [key(row, column), row]);
  const empty = rows.filter(([value]) => value === null); // always last
  const full = rows.filter(([value]) => value !== null);
  full.sort(([a], [b]) => (up ? compare(a, b) : compare(b, a)));
  body.append(...[...full, ...empty].map(([, row]) => row));
}

document.querySelectorAll("table.sortable").forEach((table) => {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = document.createElement("button");
    button.textContent = header.textContent;
    header.replaceChildren(button);
    button.addEventListener("click", () => sort(table, column, header));
  });
});
