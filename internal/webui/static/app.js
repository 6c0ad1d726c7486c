// The page: it follows the run's events and shows them. All text that comes from the server
// (names, keys, errors) is set as text, never as markup.

import * as format from "./format.js";
import { draw } from "./charts.js";
import { Refused, Stream, get, post, token } from "./stream.js";
import { element, showAlerts, showGlance, showVerification, showWaits } from "./overview.js";
import { Tables } from "./tables.js";
import { Log } from "./log.js";
import { Settings } from "./settings.js";

const $ = (id) => document.getElementById(id);

// state: lost is since when there is no connection, failedBefore the last overview of the process
// of the run right before the one that serves it now, if that has failed.
const state = { overview: null, history: [], operates: false, live: false, lost: null, failedBefore: null };

const log = new Log($("log"), $("log-level"), $("log-follow"));
const tables = new Tables(() => stream.restart());
const settings = new Settings(act);

const stream = new Stream({
  query: () => new URLSearchParams({ ...tables.query(), after: log.last }),
  onLive: (live) => {
    if (live) state.lost = null;
    else if (state.live) state.lost = Date.now();
    state.live = live;
    $("connection").dataset.live = live ? "yes" : "no";
    const text = live ? "live" : state.lost ? `no connection since ${format.clock(state.lost)}: what is shown is of then` : "connecting…";
    if ($("connection").textContent !== text) $("connection").textContent = text;
  },
  onRefused: (refused) => signedOut(refused.status === 401 ? "This token is not accepted." : refused.message),
  onEvent: (name, data) => events[name]?.(data),
});

const events = {
  history: (data) => {
    state.history = data.Points ?? [];
    charts();
  },
  overview: (overview) => {
    const before = state.overview;
    state.overview = overview;
    if (before?.StartTime && before.StartTime !== overview.StartTime) nextProcess(before, overview);
    state.operates = overview.Role === "operate";
    sample(overview);
    show(overview);
  },
  tables: (data) => tables.show(data),
  chunks: (data) => tables.showChunks(data),
  log: (data) => log.add(data.Lines),
};

// nextProcess begins again with the log of the process that serves the run now: its lines are
// counted from one. How the one before has failed stays to be seen, unless that was another run.
function nextProcess(before, now) {
  state.failedBefore = before.Failed && before.RunID === now.RunID ? before : null;
  log.last = 0;
  mismatchesShown = -1;
  stream.restart();
}

// sample adds to the charts what the server adds to its history.
function sample(overview) {
  if (overview.DoneTime && state.history.length > 0) return charts(); // nothing moves any more
  const time = Math.floor(Date.parse(overview.CurrentTime) / 1000);
  const last = state.history[state.history.length - 1];
  if (last && last.Time >= time) return;
  state.history.push({ Time: time, CopyRows: overview.CopyRowsPerSecond, CopyBytes: overview.CopyBytesPerSecond, ApplyRows: overview.ApplyRowsPerSecond, Lag: overview.ApplyLagSeconds });
  if (state.history.length > 1200) state.history = state.history.filter((_, i) => i % 2 === 1);
  charts();
}

function charts() {
  const perSecond = (n) => `${format.compact(n)} rows/s`;
  const overview = state.overview;
  const ended = Boolean(overview?.DoneTime);
  const copy = draw($("chart-copy"), state.history, (p) => p.CopyRows, perSecond, "Copy rate", ended);
  $("chart-copy-now").textContent = overview && !ended ? `${copy} · ${format.size(overview.CopyBytesPerSecond)}/s` : copy;
  $("chart-apply-now").textContent = draw($("chart-apply"), state.history, (p) => p.ApplyRows, perSecond, "Apply rate", ended);
  $("chart-lag-now").textContent = draw($("chart-lag"), state.history, (p) => p.Lag, format.lag, "Lag", ended);
}

const kinds = { copying: "run", "wait-for-cutover": "warn", "verify-before-cutover": "run", done: "good", failed: "bad" };
const words = { "wait-for-cutover": "waiting for the cutover", "verify-before-cutover": "verifying before the cutover" };

function show(overview) {
  const paused = overview.Throttle !== null && ["copying", "wait-for-cutover"].includes(overview.Phase);
  const badge = $("phase");
  const text = (words[overview.Phase] ?? overview.Phase) + (paused ? ", throttled" : "");
  if (badge.textContent !== text) badge.textContent = text;
  badge.dataset.kind = paused ? "warn" : kinds[overview.Phase] ?? (overview.Phase.startsWith("cutover") ? "warn" : "idle");
  document.title = `${overview.Phase} · ghostferry`;
  const route = $("route");
  const source = document.createElement("b");
  source.textContent = overview.SourceHostPort;
  const target = document.createElement("b");
  target.textContent = overview.TargetHostPort;
  route.replaceChildren(...(overview.SourceHostPort ? [source, " → ", target] : []));
  $("footer").textContent = [overview.RunID && `run ${overview.RunID}`, overview.GhostferryVersion, overview.Position && `at ${overview.Position}`].filter(Boolean).join(" · ");
  showAlerts($("alerts"), overview, state.failedBefore);
  showGlance(overview);
  showVerification($("verification"), overview.Verification);
  showWaits($("waits-body"), overview.Waits ?? []);
  controls(overview);
  mismatches(overview.Verification.Mismatches);
}

// controls says in words why a button is off, and what becomes of the cutover.
function controls(overview) {
  const copied = !["starting", "copying"].includes(overview.State);
  const begun = ["fence", "drain", "verify", "commit", "abort"].includes(overview.CutoverPhase);
  const late = begun ? "the cutover is under way" : overview.CutoverPhase === "done" ? "the cutover is done" : "";
  const all = !state.operates ? "Your token may see this run, not change it."
    : overview.Failed || overview.Phase === "done" ? "The run has ended." : "";
  $("pause").textContent = overview.Paused ? "Resume" : "Pause";
  $("allow").textContent = overview.CutoverAllowed ? "Hold the cutover back" : "Allow cutover";
  switchOff(all, {
    pause: "",
    verify: cannotVerify(overview.Verification, copied),
    allow: late,
    cutover: late || (!copied ? "the rows are not copied yet" : overview.CutoverAllowed ? "it is allowed already" : ""),
    "settings-open": "",
  });
  const note = all || cutoverNote(overview, copied, begun);
  if ($("control-note").textContent !== note) $("control-note").textContent = note;
  scripts(overview.Scripts, all !== "");
}

function cutoverNote(overview, copied, begun) {
  const allowed = overview.CutoverAllowed;
  if (overview.CutoverPhase === "done") return "The cutover is done.";
  if (overview.CutoverPhase === "abort") return "The cutover is being given up.";
  if (begun) return "The cutover has begun.";
  if (!copied) return allowed ? "The cutover begins by itself when the rows are copied." : "The cutover will wait for your word when the rows are copied.";
  if (!allowed) return "The rows are copied. The cutover waits for your word.";
  if (overview.CutoverPhase === "unfenced") return "The cutover was given up, and the source is written again.";
  return "The cutover begins by itself when what is left is compared and applied.";
}

function cannotVerify(v, copied) {
  if (v.Available) return "";
  if (!v.Type || v.Type === "NoVerification") return "this run compares nothing";
  if (!copied) return "the rows are not copied yet";
  return v.Started && !v.Done ? "a verification is running" : "the verifier compares by itself now";
}

// switchOff turns buttons off, all of them for one reason or each for its own, and describes
// them by it.
function switchOff(all, reasons) {
  const list = $("control-reasons");
  const shown = JSON.stringify([all, reasons, $("allow").textContent]);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren();
  for (const [id, reason] of Object.entries(reasons)) {
    const button = $(id);
    button.disabled = Boolean(all || reason);
    button.removeAttribute("aria-describedby");
    if (all) button.setAttribute("aria-describedby", "control-note");
    else if (reason) {
      const item = element("li", `${button.textContent.replace("…", "")}: ${reason}.`);
      item.id = `${id}-off`;
      list.append(item);
      button.setAttribute("aria-describedby", item.id);
    }
  }
}

function scripts(known, off) {
  const area = $("scripts");
  const names = Object.keys(known ?? {}).sort();
  area.hidden = names.length === 0;
  const shown = JSON.stringify([known, off]);
  if (area.dataset.shown === shown) return;
  area.dataset.shown = shown;
  area.replaceChildren(...names.flatMap((name, i) => {
    const button = element("button", name, "quiet");
    button.type = "button";
    button.disabled = off || known[name].Running;
    button.addEventListener("click", () => act(`Script ${name} was started.`, "/api/script", { "script-name": name }));
    const status = element("span", known[name].Status, "muted");
    status.id = `script-${i}`;
    button.setAttribute("aria-describedby", off ? "control-note" : status.id);
    if (!known[name].Logs) return [button, status];
    const output = element("pre", known[name].Logs, "output scroll");
    output.tabIndex = 0; // or the keyboard could not scroll it
    output.setAttribute("role", "region");
    output.setAttribute("aria-label", `The end of what ${name} has written`);
    return [button, status, output];
  }));
}

let mismatchesShown = 0;

async function mismatches(total) {
  $("mismatches").hidden = total === 0;
  if (total === mismatchesShown) return;
  mismatchesShown = total;
  if (total === 0) return;
  try {
    const found = await get("/api/mismatches?limit=200");
    $("mismatches-body").replaceChildren(...found.Mismatches.map((m) => {
      const row = document.createElement("tr");
      const columns = (m.columns ?? []).map((c) => c.column).join(", ");
      for (const text of [m.table, m.key, columns ? `${m.kind}: ${columns}` : m.kind]) {
        row.append(Object.assign(document.createElement("td"), { textContent: text }));
      }
      return row;
    }));
    const shown = found.Mismatches.length;
    $("mismatches-more").hidden = found.Total <= shown;
    $("mismatches-more").textContent = `The first ${format.count(shown)} of ${format.count(found.Total)} rows are shown; GET /api/mismatches?offset=${shown} has the next. Of a table at most 1,000 are known.`;
  } catch {
    mismatchesShown = -1; // again with the next event
  }
}

// act sends an order and says what came of it.
async function act(done, path, body) {
  const result = $("control-result");
  try {
    await post(path, body);
    result.className = "muted";
    result.textContent = done;
    return true;
  } catch (problem) {
    result.className = "problem";
    result.textContent = problem.message;
    if (problem instanceof Refused && problem.status === 401) signedOut("This token is not accepted any more.");
    return false;
  }
}

function signedOut(why) {
  token.forget();
  state.live = false;
  state.lost = null;
  state.failedBefore = null;
  stream.stop();
  $("run").hidden = true;
  $("login").hidden = false;
  $("sign-out").hidden = true;
  $("login-error").textContent = why;
  $("connection").textContent = "offline";
  $("token").focus();
}

async function signIn() {
  try {
    events.overview(await get("/api/overview"));
  } catch (problem) {
    signedOut(problem.status === 401 ? "This token is not accepted." : `The server cannot be reached: ${problem.message}`);
    return;
  }
  $("login").hidden = true;
  $("login-error").textContent = "";
  $("run").hidden = false;
  $("sign-out").hidden = false;
  stream.restart();
}

function confirmCutover() {
  const overview = state.overview;
  const block = overview.Cutover.PredictedWriteBlock;
  $("confirm-text").textContent = `Run ${overview.RunID}: the writers of ${overview.SourceHostPort} will be stopped and the traffic switched to ${overview.TargetHostPort}. `
    + (block > 0 ? `A write block of about ${format.milliseconds(block)} is predicted.` : "How long the writers will wait is not known yet.");
  $("confirm-word").value = "";
  $("confirm-go").disabled = true;
  $("confirm").showModal();
  $("confirm-word").focus();
}

function connectControls() {
  $("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set($("token").value.trim());
    $("token").value = "";
    signIn();
  });
  $("sign-out").addEventListener("click", () => signedOut(""));
  $("pause").addEventListener("click", () => state.overview.Paused ? act("The run goes on.", "/api/unpause") : act("The run is paused.", "/api/pause"));
  $("verify").addEventListener("click", () => act("A verification was started.", "/api/verify"));
  $("allow").addEventListener("click", () => state.overview.CutoverAllowed
    ? act("The cutover is held back.", "/api/cutover", { type: "manual" })
    : act("The cutover is allowed.", "/api/cutover", { type: "automatic", "run-id": state.overview.RunID }));
  $("cutover").addEventListener("click", confirmCutover);
  $("confirm-word").addEventListener("input", () => { $("confirm-go").disabled = $("confirm-word").value.trim() !== "cutover"; });
  $("confirm-cancel").addEventListener("click", () => $("confirm").close());
  $("confirm-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if ($("confirm-go").disabled) return;
    $("confirm").close();
    act("The cutover was ordered.", "/api/cutover", { type: "automatic", "run-id": state.overview.RunID });
  });
  $("settings-open").addEventListener("click", () => settings.open(state.overview.Settings));
  $("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  sessionStorage.setItem("ghostferry-theme", name);
}

const system = matchMedia("(prefers-color-scheme: dark)");
theme(sessionStorage.getItem("ghostferry-theme") ?? (system.matches ? "dark" : "light"));
connectControls();
if (token.get()) signIn();
else $("token").focus();
