/* The page's script, continued: hazards, and what each version answers. */
const data = () => answered ??= read("answered");
const isEntry = (it) => it !== undefined && it !== null && it.b !== undefined;
/** What suites saw: the numbers of answers, by the number of the behaviour. */
function seen(saws) {
  const found = new Map();
  for (const saw of saws) for (const [b, answers] of Object.entries(data().saws[saw])) {
    if (!found.has(Number(b))) found.set(Number(b), new Set());
    for (const answer of answers) found.get(Number(b)).add(answer);
  }
  return found;
}
/** A text in which what stands between backticks is shown as code. */
const coded = (text) => text.split("`").map((part, at, all) => at % 2 && at < all.length - 1 ? el("code", "", part) : at % 2 ? `\`${part}` : part);
const answer = (b, at) => data().behaviours[b].answers[at];

/** What is shown follows the filters of the grid: of each column only the cells that are in sight there. */
function filterAnswers(suite, rows, words) {
  const given = data(), columns = new Map(given.columns.map((it, c) => [it.join("|"), c])), tally = new Map();
  for (const { box, cell } of boxes) {
    if (!cell || box.classList.contains("off")) continue;
    const saws = given.cells[box.dataset.n].map((it) => it[0]).join();
    for (let place = -1; place < cell[3].length; place++) {
      const c = columns.get([place, cell[7], place < 0 ? "" : cell[3][place]].join("|"));
      if (!tally.has(c)) tally.set(c, new Map());
      tally.get(c).set(saws, (tally.get(c).get(saws) || 0) + 1);
    }
  }
  const known = new Map(), shown = new Set(), lines = new Map();
  for (const it of entries) {
    const counts = new Map();
    let cells = 0;
    for (const [saws, number] of tally.get(it.c) || []) {
      if (!known.has(saws)) known.set(saws, seen(saws ? saws.split(",") : []));
      const answers = known.get(saws).get(it.b);
      if (answers) cells += number;
      for (const at of answers || []) counts.set(at, (counts.get(at) || 0) + number);
    }
    drawEntry(it, [...counts.keys()], cells);
    const row = it.box.closest("tr");
    if (!lines.has(row)) lines.set(row, []);
    if (tally.has(it.c)) lines.get(row).push(it);
  }
  for (const [row, line] of lines) {
    const about = given.behaviours[entryOf(row).b], runtimes = new Map();
    for (const it of line) if (it.said.length) {
      const runtime = given.columns[it.c][1];
      runtimes.set(runtime, (runtimes.get(runtime) || new Set()).add(it.said.join()));
    }
    const text = [about.id, about.question, ...line.flatMap((it) => it.said.map((at) => answer(it.b, at).name))].join(" ").toLowerCase();
    const on = (!suite || about.suite === suite) && words.every((word) => text.includes(word))
      && (!rows.has("hazards") || line.some((it) => it.kind === "hazard"))
      && (!rows.has("refused") || line.some((it) => it.said.some((at) => answer(it.b, at).kind === "refused")))
      && (!rows.has("differs") || line.some((it) => it.said.length > 1) || [...runtimes.values()].some((it) => it.size > 1));
    row.querySelectorAll(".box").forEach((box) => box.classList.toggle("off", !on));
    for (const it of line) if (on) shown.add(it.b);
  }
  for (const it of entries) if (!tally.has(it.c)) it.box.classList.add("off");
  for (const table of document.querySelectorAll("#answers [data-table]")) fold(table);
  const all = new Set(entries.map((it) => it.b)).size;
  $("answer-count").textContent = (shown.size === all ? plural(all, "behaviour") : `${shown.size} of ${plural(all, "behaviour")}`)
    + (filtered === NONE ? "" : ", seen on the cells that the filters of the grid show");
}

function drawEntry(it, said, cells) {
  const given = data(), kinds = new Set(said.map((at) => answer(it.b, at).kind));
  it.said = said.sort();
  it.kind = !said.length ? given.none : said.length === 1 ? [...kinds][0] : kinds.has("hazard") ? "hazard" : given.several;
  for (const [kind, mark] of Object.entries(given.signs)) {
    it.box.classList.toggle(`a-${kind.replace(" ", "-")}`, kind === it.kind);
    if (kind === it.kind) it.box.querySelector(".sign").textContent = mark;
  }
  it.box.querySelector(".word").textContent = !said.length ? given.none : said.length === 1 ? answer(it.b, said[0]).name : `${said.length} answers`;
  it.box.querySelector(".more").textContent = cells ? plural(cells, "cell") : "";
  it.box.querySelector(".kind").textContent = said.length ? `, ${it.kind}` : "";
}
const entryOf = (row) => byKey.get(new URLSearchParams(row.querySelector(".box").getAttribute("href").slice(1)).get("answer"));

/** One answer of a behaviour: what happens, what to do, for which versions. */
function described(b, at, ...more) {
  const it = answer(b, at), only = data().behaviours[b].answers.length === 1;
  return el("div", "test", el("span", `sign t-${it.kind}`, { "aria-hidden": "true" }, `${data().signs[it.kind]} `), el("b", "", it.name), el("span", "quiet", ` ${it.kind} `),
    el("p", "message", ...coded(it.what)), it.do ? el("p", "message", el("b", "", "What to do: "), ...coded(it.do)) : "",
    el("p", "quiet", it.limits || (only ? "every version" : "all others"), it.issue ? " · " : "", it.issue ? issue(it.issue) : ""), ...more);
}

/** All that a cell answered; only what is dangerous of it is not folded. */
function answersOf(number) {
  const all = [...seen(data().cells[number].map((it) => it[0]))];
  const [dangerous, refused] = ["hazard", "refused"].map((kind) => all.filter(([b, answers]) => [...answers].some((at) => answer(b, at).kind === kind)));
  const one = ([b, answers]) => el("div", "asked", el("p", "", ...coded(data().behaviours[b].question), " ", el("code", "quiet", data().behaviours[b].id)), [...answers].map((at) => described(b, at)));
  return all.length ? [el("div", "suite", { role: "group", "aria-label": "Answers" },
    dangerous.length ? el("h3", "t-hazard", index.marks[0][dangerous.length]) : "", dangerous.map(one),
    refused.length ? lazy(index.marks[1][refused.length], () => refused.map(one)) : "",
    lazy(`${plural(all.length, "behaviour")} observed`, () => all.map(one)))] : [];
}

function aboutAnswer(it) {
  const given = data(), about = given.behaviours[it.b], [place, runtime, version] = given.columns[it.c], found = new Map();
  let cells = 0;
  for (const { box, cell } of boxes) {
    if (!cell || box.classList.contains("off") || cell[7] !== runtime || (place >= 0 && cell[3][place] !== version)) continue;
    cells++;
    for (const [saw, moment, from] of given.cells[box.dataset.n]) for (const at of given.saws[saw][it.b] || []) found.set(at, [...(found.get(at) || []), [cell[0], moment, from]]);
  }
  const where = place < 0 ? "every version" : `${given.axes[place][1]} ${version || "–"}`;
  const list = (who) => table(["Cell", "Date, UTC"], who.map(([id, moment, from]) => [
    el("a", "", { href: `#${new URLSearchParams({ cell: id })}` }, el("code", "", id)), from ? `in run ${from}` : day(moment * 1000)]));
  const one = ([at, who]) => {
    const title = `Observed on ${plural(who.length, "cell")}`;
    return el("section", "suite", { "aria-label": answer(it.b, at).name },
      described(it.b, at, ...(who.length > 50 ? [lazy(title, () => [list(who)])] : [el("p", "quiet", title), list(who)])));
  };
  const none = el("p", "message", `${given.signs[given.none]} ${given.none}: no test on the ${plural(cells, "cell")} here saw an answer, so nothing is known.`);
  return [el("p", "quiet", `${where}${runtime === "nvidia" ? "" : `, ${runtime}`} · asked by ${about.suite} · `, el("code", "", about.id)),
    ...(found.size ? [...found].sort((a, b) => a[0] - b[0]).map(one) : [none]), lazy("All answers that are known", () => about.answers.map((_, at) => described(it.b, at)))];
}
