"use strict";
const divs = [...document.querySelectorAll("[data-figure]")];
const dark = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)");
const printed = { ink: "#000000", line: "#d0d0d0", ground: "#ffffff" };

function screenColours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { ink: of("--ink"), line: of("--line"), ground: of("--ground") };
}

function coloured(div, { ink, line, ground }) {
  const axes = { gridcolor: line, linecolor: line, tickcolor: line };
  const named = ["xaxis", "yaxis"].flatMap((axis) =>
    Object.entries(axes).map(([key, value]) => [`${axis}.${key}`, value]));
  const under = (div.layout.annotations ?? []).flatMap((text, i) =>
    text.bgcolor ? [[`annotations[${i}].bgcolor`, ground]] : []);
  return { "font.color": ink, ...Object.fromEntries([...named, ...under]) };
}

function paint(colours, size) {
  divs.filter((div) => div.data).forEach((div) =>
    Plotly.relayout(div, { ...coloured(div, colours), ...size }));
}

async function unpack() {
  const packed = document.getElementById("library").textContent.trim();
  const bytes = Uint8Array.from(atob(packed), (each) => each.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

const SYMBOLS = { circle: "●", x: "✕", "triangle-down": "▼" };

function swatch(trace) {
  const mark = document.createElement("span");
  const points = trace.type === "box" || !(trace.mode ?? "lines").includes("lines");
  const symbol = SYMBOLS[trace.marker?.symbol ?? "circle"];
  mark.textContent = trace.type === "bar" ? "■" : points ? symbol : "━";
  mark.style.color = points || trace.type === "bar" ? trace.marker.color : trace.line.color;
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

function legend(div, traces) { // Plotly's own can't be reached by keyboard, and is cut on a phone
  const list = document.createElement("div");
  list.className = "legend";
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", "Shown in the figure");
  traces.forEach((trace, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.append(swatch(trace), ` ${trace.name}`);
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(shown));
      Plotly.restyle(div, { visible: shown }, [index]);
    });
    list.append(button);
  });
  div.before(list);
}

async function draw() {
  for (const div of divs) {
    const figure = JSON.parse(document.getElementById(div.dataset.figure).textContent);
    figure.layout.title = undefined; // the page has a heading
    figure.layout.margin.t = 24;
    figure.layout.showlegend = false;
    if (touch.matches) figure.layout.dragmode = false; // a finger scrolls the page
    if (figure.data.length > 1) legend(div, figure.data);
    await Plotly.newPlot(div, figure.data, figure.layout, { responsive: true, displayModeBar: false });
  }
  paint(screenColours(), {});
}

function undrawn(error) {
  divs.forEach((div) => {
    div.removeAttribute("style");
    div.className = "missing";
    div.textContent = `The figure can't be drawn by this browser (${error.message}).`;
  });
}

if (divs.length) unpack().then(draw).catch(undrawn);
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
