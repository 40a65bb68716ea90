"use strict";
// What the service does at the moment: an event a second from /live, shown as tiles with a minute behind them.

const KEPT_S = 60;
const AGAIN_MS = 1000;
const SVG = "http://www.w3.org/2000/svg";

const count = (value) => (value === null ? "–" : value.toLocaleString("en", { maximumFractionDigits: 0 }));
const tenths = (value) => (value === null ? "–" : value.toFixed(1));
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(0)} %`);

/** Each tile: its name, what of an overview it shows, and how. */
const TILES = [
  ["Verifiers", (now) => now.verifiers, count],
  ["Sessions", (now) => now.sessions, count],
  ["Tokens/s", (now) => now.tokens_per_s, count],
  ["Acceptance", (now) => now.acceptance, percent],
  ["Batch size", (now) => now.rows_per_step, tenths],
].map(([name, of, shown]) => ({ ...tile(name), of, shown, past: [] }));

function tile(name) {
  const box = document.createElement("div");
  const [title, rest, value] = ["dt", "dd", "span"].map((kind) => document.createElement(kind));
  const [chart, line] = ["svg", "polyline"].map((kind) => document.createElementNS(SVG, kind));
  title.textContent = name;
  value.textContent = "–";
  value.id = `live-${name.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  chart.setAttribute("viewBox", `0 0 ${KEPT_S - 1} 1`);
  chart.setAttribute("preserveAspectRatio", "none");
  chart.setAttribute("aria-hidden", "true");
  chart.append(line);
  rest.append(value, chart);
  box.append(title, rest);
  at("tiles").append(box);
  return { value, line };
}

function showTile(one, now) {
  const value = one.of(now);
  one.value.textContent = one.shown(value);
  one.past = [...one.past, value ?? 0].slice(-KEPT_S);
  const most = Math.max(...one.past, Number.MIN_VALUE);
  const first = KEPT_S - one.past.length;
  one.line.setAttribute("points", one.past.map((past, place) => `${first + place},${0.95 - (0.9 * past) / most}`).join(" "));
}

function row(cells) {
  const line = document.createElement("tr");
  for (const cell of cells) line.append(Object.assign(document.createElement("td"), { textContent: cell }));
  return line;
}

let models = "";

/** Have the models listed again when others are served than before. */
function compareModels(now) {
  const served = [...new Set(now.workers.map((one) => one.model))].sort().join();
  if (served !== models) document.dispatchEvent(new Event("models"));
  models = served;
}

function showNow(now) {
  compareModels(now);
  for (const one of TILES) showTile(one, now);
  at("workers").replaceChildren(
    ...now.workers.map((one) =>
      row([
        one.worker,
        one.model,
        `${one.sessions} of ${one.slots}`,
        count(one.tokens_per_s),
        percent(one.acceptance),
        tenths(one.rows_per_step),
        percent(one.kv_usage),
      ]),
    ),
  );
  const own = now.tenant;
  at("own").textContent = `Tenant ${own.tenant}: sessions ${own.sessions}, ${count(own.tokens_per_s)} tokens/s`;
  stateOf("");
}

/** Say why what is shown is not what is so right now; nothing, where it is. */
function stateOf(why) {
  at("live-state").textContent = why;
  for (const id of ["tiles", "own", "workers"]) at(id).classList.toggle("stale", why !== "");
}

let watching = null;

/** Watch until the key changes, or opens nothing; come back whenever the stream ends. */
async function watch() {
  const mine = (watching = new AbortController());
  while (!mine.signal.aborted) {
    try {
      const answer = await fetch("live", { headers: headers(), signal: mine.signal });
      if (answer.status === 401 || answer.status === 403) return stateOf(await complaint(answer));
      if (!answer.ok) throw new Error(await complaint(answer));
      for await (const now of events(answer)) {
        if (now.error) stateOf(now.error.message);
        else showNow(now);
      }
      stateOf("reconnecting");
    } catch (error) {
      if (!mine.signal.aborted) stateOf(error instanceof TypeError ? "reconnecting" : error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

document.addEventListener("key", () => {
  watching.abort();
  watch();
});
watch();
