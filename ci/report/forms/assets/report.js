/* The page's script: filters, a cell's details, keys, and following a run. All text is set as text, never as markup.
   The page has it in one scope with answers.js. */
const $ = (id) => document.getElementById(id);
const read = (id) => JSON.parse($(id).textContent);
const form = $("filters"), asking = $("answer-filters"), detail = $("detail");
let index, shared, answered, boxes, entries, byKey; // boxes are of the grid, entries of what versions answer
let filtered = ""; // the filters that the grid shows; the template makes it without any

// -- small things ----------------------------------------------------------------------------------------------------

/** Make an element: el("p", "class names", "text" or element, ...); an object sets attributes. */
function el(name, classes, ...content) {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  for (const it of content.flat()) {
    if (it === null || it === undefined || it === "") continue;
    if (typeof it === "object" && !(it instanceof Node)) for (const [key, value] of Object.entries(it)) made.setAttribute(key, value);
    else made.append(it);
  }
  return made;
}
function svg(name, attributes, ...content) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...content);
  return made;
}
const seconds = (value) => value >= 100 ? `${Math.round(value)} s` : `${value.toFixed(1)} s`;
const plural = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const day = (moment) => new Date(moment).toISOString().slice(0, 16).replace("T", " ");
const sign = (slug, text) => el("span", `sign t-${slug}`, { "aria-hidden": "true" }, text);
const stateOf = (name) => index.states.find((it) => it[0] === name) || [name, "not-run", "·"];
const link = (address, text) => el("a", "", { href: address, rel: "noopener noreferrer" }, text);
function issue(text) {
  const found = /^([\w.-]+\/[\w.-]+)#(\d+)$/.exec(text);
  if (found) return link(`https://github.com/${found[1]}/issues/${found[2]}`, text);
  return /^https?:\/\/[^\s"'<>]+$/.test(text) ? link(text, text) : text;
}
/** Only folders below the report's surroundings are linked to, whatever the data says. */
const safe = (address) => address && !/^[a-z][a-z0-9+.-]*:|^\/|^\\/i.test(address);

// -- the state in the address -----------------------------------------------------------------------------------------

const FIELDS = ["q", "suite", "slurm", "os", "enroot", "pyxis", "arch", "bq"];
const wanted = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
function put(change, push) {
  const next = wanted();
  for (const [key, value] of Object.entries(change)) value ? next.set(key, value) : next.delete(key);
  const text = next.toString();
  const address = text ? `#${text}` : location.pathname + location.search;
  history[push ? "pushState" : "replaceState"](null, "", address);
  apply();
}
/** A chip is pressed, or pressed no more. */
function toggle(event) {
  const chip = event.target.closest(".chip");
  if (!chip) return;
  const { state, flag, rows } = chip.dataset, name = state ? "state" : flag ? "only" : "rows", value = state || flag || rows;
  const set = listed(wanted(), name);
  set.delete(value) || set.add(value);
  put({ [name]: [...set].join(",") });
}
/** Links of the page name a cell or an answer only; the filters that are set stay. */
function keepFilters(event) {
  const anchor = event.target.closest("a[href^='#cell='], a[href^='#answer=']");
  if (!anchor || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  const named = new URLSearchParams(anchor.getAttribute("href").slice(1));
  put({ cell: named.get("cell"), answer: named.get("answer") }, true);
}
const listed = (asked, name) => new Set((asked.get(name) || "").split(",").filter(Boolean));
const wordsOf = (text) => (text || "").toLowerCase().split(/\s+/).filter(Boolean);

// -- filters ----------------------------------------------------------------------------------------------------------

function load() {
  index = read("index");
  shared = answered = null;
  filtered = filteredAnswers = "";
  byKey = new Map();
  boxes = [...document.querySelectorAll("main .box")].map((box) => {
    const gap = box.dataset.g === undefined ? null : index.gaps[box.dataset.g];
    const cell = gap ? null : index.cells[box.dataset.n];
    const it = { box, gap, cell, key: gap ? gap[0] : cell[0], place: gap ? gap[1] : cell[3] };
    if (!byKey.has(it.key)) byKey.set(it.key, it);
    return it;
  });
  entries = [...document.querySelectorAll("#answers .box")].map((box) => {
    const it = { box, b: Number(box.dataset.b), c: Number(box.dataset.c), key: new URLSearchParams(box.getAttribute("href").slice(1)).get("answer") };
    byKey.set(it.key, it);
    return it;
  });
  asking.hidden = !entries.length;
  $("answer-count").textContent = plural(new Set(entries.map((it) => it.b)).size, "behaviour");
  count(index.cells.length);
  for (const table of document.querySelectorAll("[data-table]")) {
    table.setAttribute("role", "grid");
    table.querySelectorAll(".box").forEach((box, at) => { box.tabIndex = at ? -1 : 0; });
    const scroll = table.parentElement;
    scroll.tabIndex = scroll.scrollWidth > scroll.clientWidth || scroll.scrollHeight > scroll.clientHeight ? 0 : -1;
    scroll.setAttribute("role", "group");
    scroll.setAttribute("aria-labelledby", table.getAttribute("aria-labelledby"));
  }
}

function apply({ quiet = false } = {}) {
  const asked = wanted();
  const suite = asked.get("suite") || "", at = index.suites.indexOf(suite);
  const states = listed(asked, "state"), flags = listed(asked, "only"), words = wordsOf(asked.get("q"));
  const axes = ["arch", "slurm", "os", "enroot", "pyxis"].map((name) => asked.get(name) || "");
  for (const name of FIELDS) {
    const field = form.elements[name] || asking.elements[name], value = asked.get(name) || "";
    if (field && field.value !== value && field !== document.activeElement) field.value = value;
  }
  for (const chip of form.querySelectorAll(".chip")) {
    const on = chip.dataset.state ? states.has(chip.dataset.state) : flags.has(chip.dataset.flag);
    chip.setAttribute("aria-pressed", String(on));
  }
  const filters = JSON.stringify([suite, [...states], [...flags], words, axes]);
  if (filters !== (filtered || NONE)) filter(suite, at, states, flags, words, axes);
  filtered = filters;
  const rows = listed(asked, "rows"), about = wordsOf(asked.get("bq"));
  for (const chip of asking.querySelectorAll(".chip")) chip.setAttribute("aria-pressed", String(rows.has(chip.dataset.rows)));
  const said = JSON.stringify([filters === NONE ? "" : filters, [...rows], about]);
  if (said !== (filteredAnswers || NO_ROWS)) {
    filterAnswers(suite, rows, about);
    if (isEntry(byKey.get(opened))) redraw(opened);
  }
  filteredAnswers = said;
  open(asked.get("cell") || asked.get("answer"), quiet);
}
const NONE = JSON.stringify(["", [], [], [], ["", "", "", "", ""]]), NO_ROWS = JSON.stringify(["", [], []]);
let filteredAnswers = "";

/** What the search looks through, put together when it is first needed. */
function searched(it) {
  it.text ??= `${it.key} slurm ${it.place[1]} ${it.place[2]} enroot ${it.place[3]} pyxis ${it.place[4]} ${it.place[0]} ${it.gap ? it.gap[2] : it.cell[6]}`.toLowerCase();
  return it.text;
}

function filter(suite, at, states, flags, words, axes) {
  let shown = 0;
  for (const it of boxes) {
    const number = it.gap ? index.states.findIndex((state) => state[0] === "not run")
      : at < 0 ? it.cell[1] : it.cell[2][at] ?? -1;
    const state = number < 0 ? null : index.states[number];
    const on = state !== null && (!suite || at >= 0)
      && (!states.size || states.has(state[0]))
      && ["hazards", "refused"].every((flag, kind) => !flags.has(flag) || (it.cell && marksOf(it.cell, at)[kind]))
      && (!flags.has("changed") || (it.cell && it.cell[4])) && (!flags.has("flaky") || (it.cell && it.cell[5]))
      && axes.every((value, axis) => !value || it.place[axis] === value)
      && words.every((word) => searched(it).includes(word));
    it.box.classList.toggle("off", !on);
    shown += on && !it.gap;
    if (on && it.cell && it.drawn !== `${at}/${number}`) draw(it, state, at < 0 ? null : suite, `${at}/${number}`);
  }
  for (const table of document.querySelectorAll("main [data-table]")) fold(table);
  count(shown);
}

/** How many hazards a cell has, or a suite on it, and how much that is refused. */
const marksOf = (cell, at) => at < 0 ? cell[8] : cell[9][at] || [0, 0];

function count(shown) {
  const all = index.cells.length;
  $("count").textContent = shown === all ? plural(all, "cell") : `${shown} of ${all} cells`;
}

function draw(it, state, more, drawn) {
  if (it.drawn === undefined && drawn.startsWith("-1/")) { it.drawn = drawn; return; } // as the template made it
  it.own ??= it.box.querySelector(".more").textContent;
  it.drawn = drawn;
  for (const other of index.states) it.box.classList.toggle(`s-${other[1]}`, other === state);
  it.box.querySelector(".sign").textContent = state[2];
  it.box.querySelector(".word").textContent = state[0];
  it.box.querySelector(".more").textContent = more ?? it.own;
  for (const line of it.box.querySelectorAll(".marked")) line.remove();
  it.box.querySelector(".vh").before(...marksOf(it.cell, Number(drawn.split("/")[0])).flatMap((number, kind) => {
    const [head, noun] = index.marks[kind][number].split(/ (?=\S*$)/);
    return noun ? [el("span", "marked", head, el("span", "noun", ` ${noun}`))] : [];
  }));
}

/** Rows and columns in which nothing is shown are taken out, and a table in which nothing is. */
function fold(table) {
  const rows = [...table.tBodies[0].rows], columns = [];
  let any = false;
  for (const row of rows) {
    let used = false;
    for (let column = 1; column < row.cells.length; column++) {
      const on = row.cells[column].querySelector(".box:not(.off)") !== null;
      used ||= on;
      columns[column] ||= on;
    }
    row.classList.toggle("off", !used);
    any ||= used;
  }
  table.closest("section").classList.toggle("off", !any);
  const full = columns.every((on) => on !== false);
  if (full && !table.dataset.folded) return;
  table.dataset.folded = full ? "" : "yes";
  for (const row of rows) for (let at = 1; at < row.cells.length; at++) row.cells[at].classList.toggle("off-column", !columns[at]);
  const heads = [...table.tHead.rows], last = heads[heads.length - 1], shift = heads.length > 1 ? 1 : 0;
  [...last.cells].slice(1 - shift).forEach((head, at) => head.classList.toggle("off-column", !columns[at + 1]));
  if (!shift) return;
  let from = 1;
  for (const head of [...heads[0].cells].slice(1)) {
    head.dataset.span ??= head.colSpan;
    const span = Number(head.dataset.span), left = columns.slice(from, from + span).filter(Boolean).length;
    head.classList.toggle("off-column", !left);
    head.colSpan = left || 1;
    from += span;
  }
}

// -- a cell's details ---------------------------------------------------------------------------------------------------

let opened = "", before = null;
function open(key, quiet) {
  if (key === opened) return;
  byKey.get(opened)?.box.classList.remove("open");
  const it = key ? byKey.get(key) : null;
  if (!key) {
    opened = "";
    detail.hidden = true;
    if (before && before.isConnected) before.focus({ preventScroll: true });
    before = null;
    return;
  }
  if (!opened) before = document.activeElement === document.body ? it?.box : document.activeElement;
  opened = key;
  const about = !it ? [el("p", "", "There is no such cell in this report.")] : it.gap ? aboutGap(it.gap) : it.cell ? aboutCell(it) : aboutAnswer(it);
  detail.replaceChildren(bar(key, it), ...about);
  detail.hidden = false;
  detail.scrollTop = 0;
  it?.box.classList.add("open");
  if (!quiet) $("detail-title").focus({ preventScroll: true });
}

function bar(key, it) {
  const close = el("button", "", { type: "button", "aria-label": "Close" }, "✕");
  close.addEventListener("click", () => put({ cell: "", answer: "" }));
  const step = (by, text, label) => {
    const made = el("button", "", { type: "button", "aria-label": label }, text);
    made.addEventListener("click", () => walk(by));
    return made;
  };
  return el("div", "bar", el("h2", "", { id: "detail-title", tabindex: "-1" }, ...(isEntry(it) ? coded(data().behaviours[it.b].question) : [el("code", "", key)])),
    it ? step(-1, "←", isEntry(it) ? "Previous answer" : "Previous cell") : "", it ? step(1, "→", isEntry(it) ? "Next answer" : "Next cell") : "", close);
}

/** Go to the next box that is shown. */
function walk(by) {
  const ofKind = isEntry(byKey.get(opened)) ? "answer" : "cell";
  const shown = (ofKind === "cell" ? boxes : entries).filter((it) => !it.box.classList.contains("off"));
  const at = shown.findIndex((it) => it.key === opened);
  const next = shown[(at + by + shown.length) % shown.length];
  if (next) { put({ [ofKind]: next.key }); next.box.scrollIntoView({ block: "nearest", inline: "nearest" }); }
}

function aboutGap([key, place, reason, about, id]) {
  const command = id && !about && !reason.startsWith("matrix.toml") ? again(`nox -s "${index.suites[0]}(${id})"`) : "";
  return [el("p", "", el("span", "tag s-not-run", "· not run")), el("p", "message", reason), about ? el("p", "", issue(about)) : "", command].filter(Boolean);
}

function aboutCell(it) {
  const cell = read(`cell-${it.box.dataset.n}`);
  shared ??= read("shared");
  const facts = el("dl", "facts");
  if (cell.apart) facts.append(el("dt", "", "counted apart"), el("dd", "", cell.apart));
  const order = ["slurm", "enroot", "pyxis", "os", "arch", "kernel"];
  const names = Object.keys(cell.versions).sort((a, b) => (order.indexOf(a) + 99) % 99 - (order.indexOf(b) + 99) % 99 || a.localeCompare(b));
  facts.append(el("dt", "", "observed inside"), el("dd", "", names.length ? names.map((name) => `${name} ${cell.versions[name]}`).join(" · ") : "nothing: no cluster was up"));
  const asked = wanted().get("suite");
  const rank = (suite) => (suite.suite === asked ? -99 : 0) + index.states.findIndex((state) => state[0] === suite.state);
  const suites = [...cell.suites].sort((a, b) => rank(a) - rank(b)); // what has to be looked at comes first
  const missing = cell.missing.map(([suite, why]) => el("section", "suite", { "aria-label": `${suite}: not run` },
    el("div", "suite-head", el("h3", "", suite), el("span", "tag s-not-run", "· not run")), el("p", "message", why), again(`nox -s "${suite}(${cell.id})"`)));
  return [facts, ...answersOf(it.box.dataset.n), ...suites.map(aboutSuite), ...missing];
}

function aboutSuite(suite) {
  const [name, slug, mark] = stateOf(suite.state);
  const made = el("section", "suite", { "aria-label": `${suite.suite}: ${name}` });
  made.append(el("div", "suite-head", el("h3", "", suite.suite), el("span", `tag s-${slug}`, `${mark} ${name}`),
    el("span", "quiet", `${suite.tests_counted} · ${seconds(suite.seconds)} · ${day(suite.started)} UTC`)));
  if (suite.reused_from) made.append(el("p", "", "Unchanged since ", el("code", "", suite.reused_from), ": nothing that decides it was changed, so it was not run again."));
  if (suite.change) made.append(el("p", "", el("b", `k-${suite.change[0]}`, suite.change[0]), ` since the report before${suite.change[1]}`));
  if (suite.flaky) made.append(el("p", "t-known-failure", "Flaky: it both passed and failed, and nothing that decides it was changed."));
  if (suite.trend >= 1.25 || (suite.trend > 0 && suite.trend <= 0.8)) made.append(el("p", "quiet", `It took ${suite.trend.toFixed(2)} times the median of earlier runs.`));
  if (suite.reason) made.append(el("pre", "", suite.reason));
  made.append(...tests(suite), again(suite.again), files(suite), phases(suite), history_(suite), from(suite));
  return made;
}

// Of a test's outcome: the end of its class, and its sign. What is not known is not shown as passed.
const SIGNS = { failed: ["failed", "✗ "], error: ["error", "! "], interrupted: ["interrupted", "‖ "],
  xfailed: ["known-failure", "≈ "], passed: ["passed", "✓ "] };

function tests(suite) {
  const of = (...states) => (suite.tests || []).filter((it) => states.includes(it.outcome));
  const one = (it) => el("div", "test", sign(...(SIGNS[it.outcome] || ["not-run", "· "])), el("code", "", it.name),
    el("span", "quiet", ` ${it.outcome === "xfailed" ? "known failure" : it.outcome}, ${seconds(it.seconds || 0)}${it.reruns ? `, after ${plural(it.reruns, "rerun")}` : ""} `),
    it.issue ? issue(it.issue) : "", it.message ? el("pre", "", it.outcome === "passed" ? `before, it failed: ${it.message}` : it.message) : "");
  const folded = (title, items, draw_) => items.length ? [lazy(`${items.length} ${title}`, () => items.map(draw_))] : [];
  const skipped = new Map();
  for (const it of of("skipped")) skipped.set(it.message || "no reason given", [...(skipped.get(it.message || "no reason given") || []), it.name]);
  const [at, times] = suite.passed, names = shared.names[at] || [];
  return [...of("failed", "error", "interrupted").map(one),
    ...folded("known failures", of("xfailed"), one), ...folded("expected failures", of("expected failure"), one), ...folded("passed after reruns", of("passed"), one),
    ...(skipped.size ? [lazy(`${of("skipped").length} skipped`, () => [...skipped].map(([reason, which]) =>
      el("div", "test", el("span", "", reason), el("ul", "plain", which.map((it) => el("li", "", el("code", "", it)))))))] : []),
    ...(names.length ? [lazy(`${names.length} passed`, () => [el("ul", "plain", names.map((it, place) =>
      el("li", "", el("code", "", short(it)), el("span", "quiet number", seconds(times[place])))))])] : [])];
}
const short = (name) => name.replace(/^.*\//, "");

/** Details that are drawn when they are opened. */
function lazy(title, draw_) {
  const made = el("details", "", el("summary", "", title));
  made.addEventListener("toggle", () => { if (made.open && made.childElementCount === 1) made.append(...draw_()); });
  return made;
}

function again(command) {
  if (!command) return "";
  const copy = el("button", "", { type: "button" }, "Copy"), text = el("pre", "", { tabindex: "0" }, command);
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
    }
  });
  return el("div", "", el("h4", "", "Run it again"), el("div", "command", text, copy));
}

function files(suite) {
  const names = shared.files[suite.files] || [];
  if (!names.length || !safe(suite.folder)) return "";
  return el("div", "", el("h4", "", "Files"), el("p", "files", names.map((name) =>
    el("a", "", { href: suite.folder + name.split("/").map(encodeURIComponent).join("/") }, name))));
}

function phases(suite) {
  const timings = Object.entries(suite.timings || {}), total = timings.reduce((sum, it) => sum + it[1], 0);
  if (!total) return "";
  const order = shared.phases, rank = (name) => order.includes(name) ? order.indexOf(name) : 99;
  timings.sort((a, b) => rank(a[0]) - rank(b[0]));
  let x = 0;
  const color = (name, at) => `p${order.includes(name) ? order.indexOf(name) : 6 + at % 2}`;
  const parts = timings.map(([name, value], at) => {
    const part = svg("rect", { class: color(name, at), x: x.toFixed(1), width: (value / total * 1000).toFixed(1), height: 14 });
    x += value / total * 1000;
    return part;
  });
  const told = timings.map(([name, value]) => `${name} ${seconds(value)}`);
  return el("div", "plot", el("h4", "", "Seconds per phase"),
    svg("svg", { role: "img", "aria-label": told.join(", "), viewBox: "0 0 1000 14", preserveAspectRatio: "none" }, ...parts),
    el("ul", "key", timings.map(([name, value], at) => el("li", "", svg("svg", { width: 10, height: 10, viewBox: "0 0 10 10", "aria-hidden": "true" },
      svg("rect", { class: color(name, at), width: 10, height: 10, rx: 2 })), ` ${name} ${seconds(value)}`))));
}

function history_(suite) {
  const past = [...suite.history].reverse();
  if (past.length < 2) return "";
  const most = Math.max(...past.map((it) => it[3]), 1), wide = 14;
  const bars = past.map(([run, , state, took], at) => {
    const high = Math.max(took / most * 36, 2);
    return svg("rect", { class: `t-${index.states[state][1]}`, x: at * wide, y: (36 - high).toFixed(1), width: wide - 3, height: high.toFixed(1), rx: 1 },
      svg("title", {}, document.createTextNode(`${shared.runs[run]}: ${index.states[state][0]}, ${seconds(took)}`)));
  });
  const counts = new Map();
  for (const it of past) counts.set(index.states[it[2]][0], (counts.get(index.states[it[2]][0]) || 0) + 1);
  const told = [...counts].map(([state, number]) => `${number} ${state}`).join(", ");
  return el("div", "", el("h4", "", `The last ${past.length} times: ${told}`),
    svg("svg", { class: "bars", role: "img", "aria-label": `Seconds of the last ${past.length} times; ${told}`, width: past.length * wide, height: 36 }, ...bars),
    lazy("each of them", () => [table(["Run", "Begun, UTC", "State", "Seconds", "Fingerprint"], suite.history.map(([run, moment, state, took, print, reused]) => [
      el("code", "", shared.runs[run]), day(moment * 1000), el("span", `t-${index.states[state][1]}`, `${index.states[state][2]} ${index.states[state][0]}${reused ? ` from ${reused}` : ""}`),
      took.toFixed(1), el("code", "", shared.fingerprints[print].slice(0, 12))]))]));
}

function from(suite) {
  const made = el("div", "");
  const images = (suite.images || []).map((at) => shared.images[at]), artefacts = (suite.artefacts || []).map((at) => shared.artefacts[at]);
  if (artefacts.length) made.append(lazy(`${artefacts.length} artefacts`, () => [table(["Artefact", "From", "Verified against", "SHA-256"],
    artefacts.map((it) => [el("span", "", el("code", "", it.path), it.commit ? el("small", "", ` commit ${it.commit}`) : ""), it.source, it.verified_against || el("b", "", "nothing"), el("code", "", it.sha256)]))]));
  if (images.length) made.append(lazy(`${images.length} images`, () => [table(["Image", "Digest or id", "MB", "Origin"],
    images.map((it) => [el("span", "", it.name, " ", el("code", "quiet", it.tag)), el("code", "", it.digest), ((it.size || 0) / 1e6).toFixed(0), it.origin || ""]))]));
  const more = [["run", suite.run], ["nodes", (suite.nodes || []).join(", ")], ["subject", Object.values(suite.subject || {}).filter(Boolean).join(", ")], ["commit of pyxis-matrix", suite.commit],
    ["usable after", Object.entries(suite.ready || {}).map(([name, value]) => `${name} ${seconds(value)}`).join(", ")], ["fingerprint", suite.fingerprint || ""]].filter((it) => it[1]);
  made.append(lazy("run, nodes, subject", () => [el("dl", "facts", more.map(([name, value]) => [el("dt", "", name), el("dd", "", value)]))]));
  return made;
}

function table(heads, rows) {
  return el("div", "scroll", { tabindex: "0", role: "group", "aria-label": heads[0] }, el("table", "list", el("thead", "", el("tr", "", heads.map((it) => el("th", "", { scope: "col" }, it)))),
    el("tbody", "", rows.map((row) => el("tr", "", row.map((it) => el("td", "", it)))))));
}

// -- keys ---------------------------------------------------------------------------------------------------------------

/** In a grid the arrows go from box to box, as in any grid; Enter opens, since boxes are links. */
function keys(event) {
  if (event.key === "Escape" && !detail.hidden) { put({ cell: "", answer: "" }); return; }
  const box = event.target.closest?.("[data-table] .box");
  if (!box || event.altKey || event.ctrlKey || event.metaKey) return;
  const cell = box.closest("td"), row = cell.parentElement, body = row.parentElement;
  const reach = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -999], End: [0, 999] }[event.key];
  if (event.key === " ") { event.preventDefault(); box.click(); }
  if (!reach) return;
  event.preventDefault();
  const seen = (of) => of.querySelector(".box:not(.off)");
  let next = null;
  if (reach[0]) for (let at = row.rowIndex - body.rows[0].rowIndex + reach[0]; body.rows[at] && !next; at += reach[0]) next = seen(body.rows[at].cells[cell.cellIndex]);
  else if (Math.abs(reach[1]) > 1) { const all = [...row.querySelectorAll(".box:not(.off)")]; next = reach[1] > 0 ? all[all.length - 1] : all[0]; }
  else for (let at = cell.cellIndex + reach[1]; row.cells[at] && !next; at += reach[1]) next = row.cells[at].matches("td") ? seen(row.cells[at]) : null;
  next?.focus();
}
function roving(event) {
  const box = event.target.closest?.("[data-table] .box");
  if (!box) return;
  for (const other of box.closest("table").querySelectorAll(".box[tabindex='0']")) other.tabIndex = -1;
  box.tabIndex = 0;
}

// -- following a run ------------------------------------------------------------------------------------------------------

/** What the page knows of a cell: the same text again needs no other drawing. */
function said(key) {
  const it = byKey.get(key);
  return isEntry(it) ? $("answered").textContent : it?.cell ? $(`cell-${it.box.dataset.n}`).textContent : "";
}
function redraw(key) {
  const focused = detail.contains(document.activeElement), scrolled = detail.scrollTop;
  const unfolded = new Set([...detail.querySelectorAll("details[open] > summary")].map((it) => it.textContent));
  opened = "";
  open(key, !focused);
  for (const summary of detail.querySelectorAll("summary")) if (unfolded.has(summary.textContent)) summary.parentElement.open = true;
  requestAnimationFrame(() => { detail.scrollTop = scrolled; });
}

/** Take over what a newer page says, and keep address, position, focus and what is open. */
async function follow() {
  try {
    const state = await (await fetch("state", { cache: "no-store" })).text();
    if (state && state !== document.body.dataset.live) {
      const text = await (await fetch(location.pathname, { cache: "no-store" })).text();
      const newer = new DOMParser().parseFromString(text, "text/html");
      const key = document.activeElement?.closest(".box") ? [...boxes, ...entries].find((it) => it.box === document.activeElement)?.key : "";
      const was = opened, place = [scrollX, scrollY], told = said(was);
      const sideways = [...document.querySelectorAll("#page .scroll")].map((it) => it.scrollLeft);
      for (const selector of ["header", ".chips", "main", "#rest", "#answer-tables", "#data"]) document.querySelector(selector).replaceWith(document.importNode(newer.querySelector(selector), true));
      document.body.dataset.live = newer.body.dataset.live;
      document.title = newer.title;
      load();
      if (was && said(was) !== told) redraw(was);
      byKey.get(was)?.box.classList.add("open");
      apply({ quiet: true });
      [...document.querySelectorAll("#page .scroll")].forEach((it, at) => { it.scrollLeft = sideways[at] || 0; });
      if (key) byKey.get(key)?.box.focus({ preventScroll: true });
      scrollTo(...place);
    }
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale"); // the server has ended, or restarts
  }
  setTimeout(follow, 2000);
}

// -- beginning --------------------------------------------------------------------------------------------------------------

load();
form.hidden = false;
$("more").open = matchMedia("(min-width: 40.01rem)").matches;
for (const each of [form, asking]) {
  each.addEventListener("submit", (event) => event.preventDefault());
  each.addEventListener("input", (event) => { if (FIELDS.includes(event.target.name)) put({ [event.target.name]: event.target.value.trim() }); });
  each.addEventListener("click", toggle);
}
form.addEventListener("reset", () => put(Object.fromEntries([...FIELDS, "state", "only", "rows"].map((name) => [name, ""]))));
document.addEventListener("click", keepFilters);
document.addEventListener("keydown", keys);
document.addEventListener("focusin", roving);
addEventListener("popstate", () => apply());
addEventListener("hashchange", () => apply());
apply();
if (document.body.dataset.live) setTimeout(follow, 2000);
