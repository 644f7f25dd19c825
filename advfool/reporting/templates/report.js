"use strict";
// The page's script: draws the figures that Python made, and shows the images. Text is never read as HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// ---- Dark and light: follows the system until the button is used.

const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
function nameTheme() {
  byId("theme").textContent = isDark() ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Switch to a ${isDark() ? "light" : "dark"} page`);
}
byId("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
dark.addEventListener("change", nameTheme);
nameTheme();

// ---- Plots

const GRID = "rgba(128,128,128,0.25)";
const AXIS = { gridcolor: GRID, linecolor: "#888888", zerolinecolor: "rgba(128,128,128,0.6)", automargin: true, title: { standoff: 10, font: { size: 13 } }, tickfont: { size: 12 }, tickcolor: GRID };
const TEMPLATE = {
  layout: {
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "#777777" },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 56, r: 8, t: 8, b: 48 },
    legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, bgcolor: "rgba(0,0,0,0)" },
    xaxis: AXIS,
    yaxis: AXIS,
    hoverlabel: { align: "left" },
    colorway: ["#0072b2", "#d55e00", "#009e73", "#c2649a"],
  },
};
const CONFIG = { responsive: true, displayModeBar: false };
const DRAG = matchMedia("(pointer: fine)").matches ? "zoom" : false; // a finger scrolls the page
const drawn = new Map(); // figure by the place it is drawn in

function draw(id, figure) {
  const place = byId(id);
  drawn.set(id, figure);
  place.setAttribute("aria-label", figure.alt);
  Plotly.react(place, figure.data, { template: TEMPLATE, dragmode: DRAG, ...figure.layout }, CONFIG);
  const numbers = document.querySelector(`[data-of="${id}"]`);
  if (numbers.open) tabulate(numbers);
  if (place.dataset.linked) return;
  place.dataset.linked = "yes";
  place.on("plotly_click", (event) => {
    const anchor = event.points[0].customdata;
    if (anchor) location.hash = anchor;
  });
}

function cells(values, first) {
  return values.map((value, place) =>
    element(place === 0 && first ? "th" : "td", place === 0 && first ? { scope: "row" } : { class: "n" }, value === null || value === undefined ? "–" : String(value)),
  );
}

function heads(names) {
  return element("thead", {}, element("tr", {}, ...names.map((name, place) => element("th", { scope: "col", class: place ? "n" : undefined }, name))));
}

// Names in figures are escaped for Plotly; a table shows them as text.
const plain = (text) => String(text).replace(/<br>/g, ", ").replace(/<\/?b>/g, "").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");

function tabulate(details) {
  const { data, layout } = drawn.get(details.dataset.of);
  const title = (axis) => (layout[axis] && layout[axis].title ? layout[axis].title.text : axis);
  const body = element("tbody");
  let head;
  if (data[0].type === "heatmap") {
    head = heads([`${title("yaxis")} \\ ${title("xaxis")}`, ...data[0].x.map(plain)]);
    data[0].y.forEach((name, row) => body.append(element("tr", {}, ...cells([plain(name), ...data[0].z[row].map((value, place) => (value === null ? null : plain(data[0].text[row][place])))], true))));
  } else {
    head = heads(["curve or run", title("xaxis"), "value"]);
    for (const trace of data.filter((found) => found.x[0] !== null)) {
      trace.x.forEach((x, place) => {
        const name = plain(trace.text ? trace.text[place] : trace.name);
        body.append(element("tr", {}, ...cells([name, x, trace.y[place]], true)));
      });
    }
  }
  details.querySelector(".scroll").replaceChildren(element("table", {}, head, body));
}

for (const details of document.querySelectorAll("details.numbers")) {
  details.addEventListener("toggle", () => details.open && tabulate(details));
}

// Paper is narrower than a screen, and plots do not resize by themselves when the page is printed.
addEventListener("beforeprint", () => drawn.forEach((_, id) => Plotly.relayout(byId(id), { width: 670 })));
addEventListener("afterprint", () => drawn.forEach((_, id) => Plotly.relayout(byId(id), { width: null, autosize: true })));

// ---- Choosing: the selects offer only combinations that exist; after a change, later selects keep their value if they can.

function picker(form, items, keys, show) {
  let current = items[0];
  function fill() {
    let left = items;
    for (const key of keys) {
      const select = form.elements[key];
      const values = [...new Set(left.map((item) => item[key]))];
      select.replaceChildren(...values.map((value) => new Option(value, value, false, value === current[key])));
      left = left.filter((item) => item[key] === current[key]);
    }
    show(current);
  }
  form.addEventListener("change", () => {
    let left = items;
    for (const key of keys) {
      const same = left.filter((item) => item[key] === form.elements[key].value);
      if (same.length) left = same;
    }
    current = left[0];
    fill();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  fill();
  return (item) => {
    current = item;
    fill();
  };
}

// ---- Gallery

function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function colours(scale) {
  return Array.from({ length: 256 }, (_, value) => {
    const place = (value / 255) * (scale.length - 1);
    const low = Math.min(Math.floor(place), scale.length - 2);
    return scale[low].map((part, channel) => part + (place - low) * (scale[low + 1][channel] - part));
  });
}

const SCALES = { heat: colours(DATA.scales.heat), signed: colours(DATA.scales.signed) };

function heatmap(text, [height, width], signed, shown, label) {
  const canvas = element("canvas", { width, height, class: shown, role: "img", "aria-label": label });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const table = signed ? SCALES.signed : SCALES.heat;
  bytes(text).forEach((value, place) => pixels.data.set([...table[value], 255], 4 * place));
  context.putImageData(pixels, 0, 0);
  return canvas;
}

const loss = (value) => (value === null ? "degenerate" : value.toFixed(3).replace("-", "−"));
const share = (value) => `${Math.round(100 * value)} %`;

function view(child, under) {
  return element("div", {}, element("div", { class: "view" }, ...child), element("div", { class: "under" }, ...under));
}

function card(image, interp, shown) {
  const picture = (alt, grey) => element("img", { src: DATA.pictures[image.picture], alt, class: grey ? "grey" : undefined });
  const said = (network) => `says ${image.predictions[network][0]}, ${share(image.predictions[network][1])}`;
  const rows = image.maps[interp.name].map((maps, which) => {
    const of = image.explained[which];
    const views = ["original", "manipulated"].map((network, place) => {
      const label = `${interp.label} of the ${network} network for class ${of}, test loss ${loss(maps.loss[place])}`;
      const map = heatmap(maps[network], maps.size, interp.signed, shown, label);
      const mark = place && maps.fooled ? [" ", element("span", { class: "fooled" }, "fooled")] : [];
      const under = [image.explained.length > 1 ? `${network}, ${of}` : network, element("br"), loss(maps.loss[place]), ...mark, element("br"), said(network)];
      return view(shown === "over" ? [picture("", true), map] : [map], under);
    });
    const first = which === 0 ? view([picture(`${image.title}, class ${image.label}`)], []) : element("div");
    return element("div", { class: "row" }, first, ...views);
  });
  const about = [element("span", { class: "role" }, image.roles.join(", ")), ` · ${image.title}, class ${image.label}`];
  if (image.explained.length === 1 && image.explained[0] !== image.label) about.push(`, explained ${image.explained[0]}`);
  return element("figure", { class: "card" }, element("figcaption", {}, ...about), ...rows);
}

let gallery = null; // of the run on display
let title = "";

// A change of run keeps the chosen interpreter and image where the new run has them.
function fillGallery(before) {
  const form = byId("gallery-pick").elements;
  const chosen = before && form.interp.value !== before.interps[0].name;
  const wanted = { interp: chosen ? form.interp.value : gallery.interps[0].name, image: form.image.value };
  const options = gallery.interps.map(({ name, label }, place) => new Option(place ? label : `${label} (trained with)`, name));
  form.interp.replaceChildren(...options);
  const images = gallery.images.map((image) => new Option(`${image.roles.join(", ")}: ${image.title}, ${image.label}`, image.index));
  form.image.replaceChildren(new Option(`all ${images.length}, from best to worst`, "all"), ...images);
  for (const key of ["interp", "image"]) {
    if ([...form[key].options].some((option) => option.value === wanted[key])) form[key].value = wanted[key];
  }
  showGallery();
}

function showGallery() {
  const form = byId("gallery-pick").elements;
  const interp = gallery.interps.find(({ name }) => name === form.interp.value);
  const chosen = gallery.images.filter((image) => form.image.value === "all" || String(image.index) === form.image.value);
  byId("cards").classList.toggle("single", chosen.length === 1);
  byId("cards").replaceChildren(...chosen.map((image) => card(image, interp, form.shown.value)));
  const which = chosen.length === 1 ? `${chosen[0].roles.join(", ")}, ${chosen[0].title}` : `${chosen.length} images, sorted by the test loss of ${gallery.interps[0].label} from best to worst`;
  byId("gallery-caption").textContent = `${title}. Heatmaps by ${interp.label}: ${which}. The number below a heatmap is its test loss; it counts as fooled from ${gallery.interval[0]} to ${gallery.interval[1]}.`;
  const scale = DATA.scales[interp.signed ? "signed" : "heat"].map((colour) => `rgb(${colour.join()})`);
  byId("scale-bar").style.background = `linear-gradient(to right, ${scale.join()})`;
  byId("scale-low").textContent = interp.signed ? "−1" : "0";
}

function step(by) {
  const select = byId("gallery-pick").elements.image;
  select.selectedIndex = (select.selectedIndex + by + select.options.length) % select.options.length;
  showGallery();
}

// ---- One run

function present(id, there) {
  byId(`${id}-none`).hidden = there;
  const place = byId(id) || byId(`${id}-plot`).closest("figure");
  place.hidden = !there;
}

let showAopc = null;

function showRun(run) {
  title = run.title;
  byId("run-link").setAttribute("href", `#${run.anchor}`);
  present("training", Boolean(run.training));
  if (run.training) draw("training-plot", run.training);
  present("aopc", run.aopc.length > 0);
  byId("aopc-pick").hidden = run.aopc.length < 2;
  showAopc = run.aopc;
  if (run.aopc.length) {
    byId("aopc-pick").elements.interp.replaceChildren(...run.aopc.map(({ interp }) => new Option(interp)));
    draw("aopc-plot", run.aopc[0].figure);
  }
  const before = gallery;
  gallery = run.gallery;
  present("gallery", Boolean(gallery));
  if (gallery) fillGallery(before);
}

if (DATA.transfer.length) {
  picker(byId("transfer-pick"), DATA.transfer, ["model", "fooling"], ({ figure }) => draw("transfer-plot", figure));
  draw("tradeoff-plot", DATA.tradeoff);
}
if (DATA.runs.length) {
  byId("aopc-pick").addEventListener("change", (event) => draw("aopc-plot", showAopc[event.target.selectedIndex].figure));
  const form = byId("gallery-pick");
  form.addEventListener("change", showGallery);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.back.addEventListener("click", () => step(-1));
  form.elements.next.addEventListener("click", () => step(1));
  const choose = picker(byId("run-pick"), DATA.runs, ["model", "fooling", "interp", "run"], showRun);
  for (const link of document.querySelectorAll("a.show")) {
    link.addEventListener("click", () => choose(DATA.runs.find((run) => run.anchor === link.dataset.run)));
  }
}

// ---- Runs: a link opens the details of its run; column heads sort the table.

function openRuns(anchors) {
  document.querySelectorAll(".run.target").forEach((run) => run.classList.remove("target"));
  for (const run of anchors.map(byId).filter((found) => found && found.matches(".run"))) {
    run.open = true;
    run.classList.add("target");
  }
}
addEventListener("hashchange", () => {
  const anchor = location.hash.slice(1);
  const place = anchor && byId(anchor);
  if (!place || !place.matches(".run")) return;
  if (!place.classList.contains("target")) openRuns([anchor]);
  place.scrollIntoView();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#run-']");
  if (link) openRuns(link.dataset.runs ? link.dataset.runs.split(" ") : [link.hash.slice(1)]);
});
openRuns([location.hash.slice(1)]);

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => a - b || a.localeCompare(b, undefined, { numeric: true });
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      const known = (row) => key(row, column) !== "";
      const rows = [...body.rows].filter(known).sort((a, b) => compare(key(a, column), key(b, column)) * (falls ? -1 : 1));
      rows.push(...[...body.rows].filter((row) => !known(row)));
      [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      body.append(...rows);
    });
  });
}
