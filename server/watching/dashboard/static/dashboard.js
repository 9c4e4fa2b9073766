// The page: asks the server once a second how it goes, and changes only what has changed.
"use strict";

const EVERY_MS = 1000, AFTER_LOSS_MS = 3000, COLOURS = 8;
const SVG = "http://www.w3.org/2000/svg";
const RESULTS = {
  converged: "good", cancelled: "busy", abandoned: "busy", running: "busy", waiting: "", queued: "", done: "good",
};
const byId = (id) => document.getElementById(id);
const picked = { solve: null, job: null };
let jobsFirst = 0, timer = 0, asking = false;

// ---- words for numbers

function whole(value) {
  return value === null || value === undefined ? "–" : value.toLocaleString("en");
}

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(1) : String(Number(value.toPrecision(4)));
}

function power(exponent) {
  if (!Number.isInteger(exponent) || Math.abs(exponent) < 4) return short(10 ** exponent);
  return "10" + [...String(exponent)].map((one) => "⁰¹²³⁴⁵⁶⁷⁸⁹"["0123456789".indexOf(one)] ?? "⁻").join("");
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds > 0 && seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 60) return `${Number.isInteger(seconds) ? seconds : seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (hours < 1) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return days < 1 ? `${hours} h ${minutes % 60} min` : `${days} d ${hours % 24} h`;
}

function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (count >= 1024 && place < units.length - 1) { count /= 1024; place += 1; }
  return `${place && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[place]}`;
}

// ---- rows that stay where they are: a row of the same key is filled anew, its button keeps the focus

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function rows(body, items, key, make, fill) {
  const kept = new Map([...body.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, place) => {
    const name = String(key(item));
    let row = kept.get(name);
    if (!row) { row = make(item); row.dataset.key = name; }
    kept.delete(name);
    fill(row, item);
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] || null);
  });
  for (const row of kept.values()) row.remove();
  byId(`${body.id}-empty`).hidden = items.length > 0;
}

function row(cells, classes = {}) {
  const made = document.createElement("tr");
  for (let place = 0; place < cells; place += 1) {
    const cell = document.createElement("td");
    if (classes[place]) cell.className = classes[place];
    made.append(cell);
  }
  return made;
}

function pickable(made, kind, id) {
  const button = document.createElement("button");
  button.type = "button";
  button.addEventListener("click", () => {
    picked[kind] = picked[kind] === id ? null : id;
    ask();
  });
  made.cells[0].append(button);
  return button;
}

function mark(made, chosen) {
  made.classList.toggle("picked", chosen);
  made.querySelector("button").setAttribute("aria-pressed", String(chosen));
}

// ---- charts

function draw(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function ticks(low, high, wanted) {
  const raw = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((part) => part * power).find((one) => one >= raw);
  const found = [];
  for (let at = (Math.ceil(low / step - 1e-9) || 0) * step; at <= high + 1e-9 * step; at += step) found.push(at + 0);
  return found;
}

// Curves are lists of [x, y]; y is drawn as its logarithm where `log`. `goal` is a line across.
function chart(svg, curves, { log, goal, nothing, label }) {
  const width = svg.clientWidth || 600, height = svg.clientHeight || 248;
  const left = 52, right = 24, top = 10, bottom = 26;
  const scaled = (y) => (log ? Math.log10(y) : y);
  const shown = curves
    .map((curve) => ({ ...curve, points: curve.points.filter(([, y]) => y !== null && (!log || y > 0)) }))
    .filter((curve) => curve.points.length);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-label", label(shown));
  if (!shown.length) {
    svg.replaceChildren(draw("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, nothing));
    return;
  }
  const xs = shown.flatMap((curve) => curve.points.map(([x]) => x));
  const ys = shown.flatMap((curve) => curve.points.map(([, y]) => scaled(y)));
  if (goal !== undefined) ys.push(scaled(goal));
  const low = Math.min(...xs), high = Math.max(...xs, low + 1);
  let floor = Math.min(...ys), roof = Math.max(...ys);
  const air = (roof - floor) * 0.05 || 0.5;
  floor -= air; roof += air;
  const atX = (x) => left + ((x - low) / (high - low)) * (width - left - right);
  const atY = (y) => top + ((roof - y) / (roof - floor)) * (height - top - bottom);
  const parts = [];
  let marks = ticks(floor, roof, 5);
  if (log) { // whole powers of ten, and none of them twice
    const step = Math.max(1, Math.ceil((roof - floor) / 6));
    marks = [];
    for (let at = Math.ceil(floor / step) * step; at <= roof; at += step) marks.push(at);
    if (marks.length < 2) marks = ticks(floor, roof, 4);
  }
  for (const at of marks) {
    const y = atY(at).toFixed(1);
    parts.push(draw("line", { class: "rule", x1: left, x2: width - right, y1: y, y2: y }));
    parts.push(draw("text", { x: left - 7, y: Number(y) + 4, "text-anchor": "end" }, log ? power(at) : short(at)));
  }
  for (const at of ticks(low, high, 6)) {
    if (!Number.isInteger(at)) continue;
    parts.push(draw("text", { x: atX(at).toFixed(1), y: height - 8, "text-anchor": "middle" }, whole(at)));
  }
  if (goal !== undefined) {
    const y = atY(scaled(goal)).toFixed(1);
    parts.push(draw("line", { class: "goal", x1: left, x2: width - right, y1: y, y2: y }));
  }
  for (const curve of shown) {
    const path = curve.points.map(([x, y]) => `${atX(x).toFixed(1)},${atY(scaled(y)).toFixed(1)}`);
    parts.push(draw("path", { class: `curve ${curve.look}`, d: `M${path.join("L")}` }));
    const [x, y] = path[path.length - 1].split(",");
    parts.push(draw("circle", { class: curve.look, cx: x, cy: y, r: 2.6 }));
  }
  svg.replaceChildren(...parts);
}

// ---- the parts of the page

function figures(server) {
  const jobs = server.jobs;
  put(byId("target"), server.target);
  put(byId("f-solves"), `${server.solves_running} running`);
  const compiling = server.compiling;
  put(
    byId("f-solves-more"),
    compiling.waiting.length
      ? `compiling ${compiling.waiting[0]}: ${compiling.done} of ${compiling.total} kernels`
      : `${server.solves_waiting} waiting, at most ${server.solves_limit} in all`,
  );
  put(byId("f-sessions"), `${server.sessions} of ${server.sessions_limit}`);
  put(byId("f-sessions-more"), `${((100 * server.cells) / server.cells_limit).toFixed(1)} % of the cells allowed`);
  put(byId("f-jobs"), `${jobs.running} running`);
  put(byId("f-jobs-more"), `${jobs.queued} queued, ${jobs.done} done, ${jobs.failed} failed`);
  put(byId("f-memory"), bytes(server.memory));
  put(byId("f-uptime"), duration(Math.floor(server.uptime)));
  put(byId("f-version"), `version ${server.version}`);
  notServed(server.not_served);
  document.title = server.solves_running || jobs.running ? "relaxon, at work" : "relaxon";
}

// What the server lacks packages for, a line each; nothing where it lacks none.
function notServed(lines) {
  const list = byId("not-served").querySelector("ul");
  byId("not-served").hidden = lines.length === 0;
  if (list.children.length === lines.length && lines.every((line, place) => list.children[place].textContent === line)) return;
  list.replaceChildren(...lines.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
}

const colour = (solve) => `c${solve.number % COLOURS}`;

function solves(list, extra) {
  const all = extra && !list.some((solve) => solve.number === extra.number) ? [...list, extra] : list;
  if (picked.solve !== null && !all.some((solve) => solve.number === picked.solve)) picked.solve = null;
  rows(byId("solves"), list, (solve) => solve.number, (solve) => {
    const made = row(6, { 2: "n", 3: "n", 4: "n" });
    pickable(made, "solve", solve.number);
    return made;
  }, (made, solve) => {
    const [name, grid, iterations, time, error, result] = made.cells, button = name.firstChild;
    if (!button.childNodes.length) {
      const swatch = document.createElement("span");
      swatch.className = `swatch ${colour(solve)}`;
      button.append(swatch, `${solve.number} ${solve.solver}`);
    }
    mark(made, picked.solve === solve.number);
    put(grid, solve.shape.join(" × "));
    put(iterations, whole(solve.iterations));
    put(time, duration(solve.seconds));
    put(error, short(solve.backward_error));
    const words = solve.outcome || solve.state;
    put(result, words.replaceAll("_", " "));
    result.className = RESULTS[words] ?? "bad";
  });
  const drawn = all.map((solve) => (extra && extra.number === solve.number ? extra : solve)).filter((one) => one.residuals && one.tolerance);
  drawn.sort((one, other) => (one.number === picked.solve) - (other.number === picked.solve));
  chart(byId("residuals"), drawn.map((solve) => ({
    name: `solve ${solve.number} by ${solve.solver}`,
    look: colour(solve) + (picked.solve !== null && picked.solve !== solve.number ? " faded" : ""),
    points: solve.residuals.map(([x, y]) => [x, y === null ? null : y / solve.tolerance]),
  })), {
    log: true, goal: 1, nothing: "no solve has done an iteration yet",
    label: (shown) => (shown.length ? "Residuals: " + shown.map((curve) => `${curve.name} at ${short(curve.points.at(-1)[1])} times the tolerance after ${curve.points.at(-1)[0]} iterations`).join("; ") : "Residuals: none yet"),
  });
  put(byId("residuals-hint"), picked.solve === null ? "Pick a solve to bring its curve out." : `Solve ${picked.solve} is picked.`);
}

function jobs(state) {
  rows(byId("jobs"), state.jobs, (job) => job.id, (job) => {
    const made = row(5, { 2: "why", 3: "n", 4: "n" });
    pickable(made, "job", job.id);
    return made;
  }, (made, job) => {
    const [name, words, progress, loss, time] = made.cells;
    put(name.firstChild, job.model);
    name.firstChild.title = `${job.model}: ${job.kind}, operations/${job.id}`;
    mark(made, picked.job === job.id);
    put(words, job.cancelling ? "stopping" : job.state);
    words.className = RESULTS[job.state] ?? "bad";
    if (job.message) {
      put(progress, job.message);
      progress.title = job.message;
    } else if (job.wanted) {
      if (!progress.firstElementChild) {
        const bar = document.createElement("progress");
        progress.replaceChildren(bar, "");
      }
      progress.firstElementChild.max = job.wanted;
      progress.firstElementChild.value = job.done;
      progress.firstElementChild.setAttribute("aria-label", `of ${job.model}`);
      progress.lastChild.data = `${whole(job.done)} of ${whole(job.wanted)} ${job.unit}`;
    } else {
      put(progress, "–");
    }
    put(loss, short(job.loss));
    put(time, duration(job.seconds));
  });
  jobsFirst = state.jobs_first;
  byId("pages").hidden = state.jobs_total <= state.jobs_page;
  byId("newer").disabled = jobsFirst === 0;
  byId("older").disabled = jobsFirst + state.jobs_page >= state.jobs_total;
  put(byId("page"), `${jobsFirst + 1} to ${jobsFirst + state.jobs.length} of ${state.jobs_total}`);
}

function losses(job) {
  const curves = job ? [
    { name: "loss", look: "c0", points: job.curves.loss },
    { name: "validation loss", look: "c1 second", points: job.curves.validation_loss },
  ] : [];
  const values = curves.flatMap((curve) => curve.points.map(([, y]) => y)).filter((y) => y !== null);
  const log = values.length > 0 && Math.min(...values) > 0 && Math.max(...values) > 20 * Math.min(...values);
  chart(byId("losses"), curves, {
    log, nothing: job ? "no step has ended yet" : "pick a job to see its curve",
    label: (shown) => (shown.length ? `Training of ${job.model}: ` + shown.map((curve) => `${curve.name} ${short(curve.points.at(-1)[1])} after ${curve.points.at(-1)[0]} steps`).join("; ") : "Training loss: no curve"),
  });
  if (!job) { put(byId("losses-caption"), "Training loss against steps."); return; }
  const held = curves[1].points.length ? ", on held-out rows dashed" : "";
  const more = Object.entries(job.newest).filter(([name, value]) => typeof value === "number" && !/loss|_wanted|seconds/.test(name));
  put(byId("losses-caption"), `${job.model}: loss against steps${held}. ` + more.map(([name, value]) => `${name.replaceAll("_", " ")} ${short(value)}`).join(", "));
}

function sessions(list) {
  rows(byId("sessions"), list, (session) => session.id, () => row(8, { 2: "n", 3: "n", 5: "n", 6: "n", 7: "n" }), (made, session) => {
    const values = [
      `${session.id}…`, session.shape.join(" × "), whole(session.unknowns), bytes(session.bytes),
      session.solvers.join(", ") || "–", whole(session.calls), duration(Math.floor(session.age)),
      session.calls ? "in use" : duration(Math.floor(session.idle)),
    ];
    values.forEach((value, place) => put(made.cells[place], value));
  });
}

// ---- asking

async function fetched(path) {
  const answer = await fetch(path);
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function connection(state, words) {
  const node = byId("connection");
  node.dataset.state = state;
  put(node, words);
}

async function ask() {
  clearTimeout(timer);
  if (asking || document.hidden) return;
  asking = true;
  let wait = EVERY_MS;
  try {
    const state = await fetched(`/api/state?jobs=${jobsFirst}`);
    // Without a choice, the job that runs is the one to see.
    const job = picked.job ?? (state.jobs.find((one) => one.state === "running") ?? state.jobs[0])?.id;
    const [solve, watched] = await Promise.all([
      picked.solve === null ? null : fetched(`/api/solves/${picked.solve}`),
      job === undefined ? null : fetched(`/api/jobs/${job}`),
    ]);
    if (picked.job !== null && watched === null) picked.job = null;
    figures(state.server);
    solves(state.solves, solve);
    jobs(state);
    losses(watched);
    sessions(state.sessions);
    connection("live", "live");
  } catch (error) {
    console.warn(String(error));
    connection("lost", "the server does not answer; trying again");
    wait = AFTER_LOSS_MS;
  }
  asking = false;
  clearTimeout(timer);
  timer = setTimeout(ask, wait);
}

function turn(by) {
  return () => { jobsFirst = Math.max(0, jobsFirst + by); ask(); };
}

byId("newer").addEventListener("click", turn(-50));
byId("older").addEventListener("click", turn(50));
document.addEventListener("visibilitychange", ask);
ask();
