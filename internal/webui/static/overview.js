// What an overview says: alerts, numbers at a glance, verification, waits.

import * as format from "./format.js";

const $ = (id) => document.getElementById(id);

export function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// fillTiles updates a list of terms in place, so that a reader's place is kept.
export function fillTiles(list, tiles) {
  while (list.children.length > tiles.length) list.lastChild.remove();
  tiles.forEach(([term, value, note], i) => {
    let tile = list.children[i];
    if (!tile) {
      tile = element("div");
      tile.append(element("dt"), element("dd"));
      list.append(tile);
    }
    tile.children[0].textContent = term;
    const described = `${value}\n${note ?? ""}`;
    if (tile.dataset.shown === described) return;
    tile.dataset.shown = described;
    tile.children[1].replaceChildren(value, ...(note ? [element("small", note)] : []));
  });
}

export function setMeter(meter, fraction, kind) {
  meter.firstElementChild.style.width = `${Math.min(1, fraction) * 100}%`;
  meter.setAttribute("aria-valuenow", Math.floor(Math.min(1, fraction) * 100));
  meter.dataset.kind = kind ?? "";
}

// failure leaves out what a server of an older version does not know.
const failure = (o) => o.Resumable == null ? o.Error : `${o.Error}\n${o.Resumable
  ? "It can be resumed: when the reason is out of the way, the same command goes on from here."
  : "It cannot be resumed as it is: first do what the error says."}`;

// showAlerts says what needs somebody's attention.
export function showAlerts(area, o, failedBefore) {
  const alerts = [];
  if (o.Failed) alerts.push(["bad", `The run has failed: ${failure(o)}`]);
  if (failedBefore) alerts.push(["warn", `The process before this one has failed at ${format.clock(failedBefore.DoneTime)}: ${failedBefore.Error}`]);
  if (o.Throttle && o.Paused) alerts.push(["warn", `Paused by hand since ${format.clock(o.Throttle.Since)}: copy and apply stand still until somebody resumes.`]);
  else if (o.Throttle) alerts.push(["warn", `Throttled by ${o.Throttle.Who} since ${format.clock(o.Throttle.Since)}: `, o.Throttle.Why]);
  if (o.Verification.Mismatches > 0) alerts.push(["bad", "Source and target are not the same: ", `${o.Verification.Mismatches === 1 ? "1 row differs" : `${format.count(o.Verification.Mismatches)} rows differ`}.`]);
  if (o.Cutover.LastError && o.Phase !== "done") alerts.push(["warn", `The last cutover was given up: ${o.Cutover.LastError}`]);
  const end = o.StopPosition || o.Position;
  if (o.Phase === "done" && !o.Failed) alerts.push(["good", end ? `The streams have ended; the target has everything up to ${end}.` : "The streams have ended."]);
  // What is new is announced, and what stays is not again. Nor is a detail, which changes every
  // second, as a lag does.
  const before = new Map([...area.children].map((alert) => [alert.dataset.shown, alert]));
  const shown = alerts.map(([kind, text, detail]) => {
    const alert = before.get(kind + text) ?? element("div", text, `alert ${kind}`);
    alert.dataset.shown = kind + text;
    if (detail !== undefined) {
      const quiet = alert.querySelector("span") ?? alert.appendChild(element("span"));
      quiet.setAttribute("aria-live", "off");
      if (quiet.textContent !== detail) quiet.textContent = detail;
    }
    return alert;
  });
  for (const alert of before.values()) if (!shown.includes(alert)) alert.remove();
  shown.forEach((alert, i) => { if (area.children[i] !== alert) area.insertBefore(alert, area.children[i] ?? null); });
}

export function showGlance(o) {
  const rows = o.RowsCopied + (o.RowsCopiedBefore ?? 0); // an older version does not tell those before
  const all = rows + o.RowsRemaining;
  const copied = o.TablesTotal > 0 && o.TablesCompleted === o.TablesTotal;
  const outgrown = !copied && rows > 0 && o.RowsRemaining === 0;
  // Tables without an estimate count by their number.
  const estimated = o.TablesTotal > 0 ? 1 - o.TablesUnestimated / o.TablesTotal : 0;
  const fraction = copied ? 1 : all > 0 ? Math.min(0.999, rows / all, estimated) : 0;
  $("overall-percent").textContent = outgrown ? "? %" : copied || all > 0 ? format.percent(fraction) : "–";
  $("overall-rows").textContent = copied || outgrown
    ? `${format.count(rows)} rows copied`
    : all > 0 ? `${format.count(rows)} of ${estimated < 0.9 ? "more than" : "about"} ${format.count(all)} rows` : "no rows yet";
  $("overall-eta").textContent = copied ? "" : o.ETASeconds != null ? `about ${format.duration(o.ETASeconds)} left` : o.ETAReason;
  setMeter($("overall-meter"), fraction, o.Failed ? "bad" : copied ? "good" : o.Throttle ? "warn" : "");

  const running = o.StartTime ? Math.max(0, (Date.parse(o.DoneTime ?? o.CurrentTime) - Date.parse(o.StartTime)) / 1000) : null;
  const block = o.Cutover.PredictedWriteBlock;
  const ended = Boolean(o.DoneTime);
  const average = o.CopySeconds > 0 ? o.RowsCopied / o.CopySeconds : null;
  fillTiles($("tiles"), [
    ended ? ["Copy", average == null ? "–" : `${format.compact(average)} rows/s`, "on average"]
      : ["Copy", `${format.compact(o.CopyRowsPerSecond)} rows/s`, `${format.size(o.CopyBytesPerSecond)}/s`],
    ["Copied", format.size(o.BytesCopied), `${format.count(o.RowsCopied)} rows${o.RowsCopiedBefore > 0 ? " by this process" : ""}`],
    ["Changes applied", format.compact(o.BinlogRowsApplied), ended ? "row changes" : `${format.compact(o.ApplyRowsPerSecond)} rows/s`],
    ["Lag", ended ? "–" : format.lag(o.ApplyLagSeconds), ended ? "the run has ended" : `reading: ${format.lag(o.ReadLagSeconds)}`],
    ["Tables", `${format.count(o.TablesCompleted)} of ${format.count(o.TablesTotal)}`, `${format.count(o.TablesCopying)} copying, ${format.count(o.TablesWaiting)} waiting`],
    running == null ? ["Running for", "not begun"] : ["Running for", format.duration(running), `since ${format.clock(o.StartTime)}`],
    ["Write block", o.Cutover.WriteBlock > 0 ? format.milliseconds(o.Cutover.WriteBlock) : block > 0 ? `≈ ${format.milliseconds(block)}` : "unknown",
      o.Cutover.WriteBlock > 0 ? (o.CutoverPhase === "done" ? "measured" : "of the last cutover") : block > 0 ? "predicted" : "not predicted yet"],
    ["Cutover", o.CutoverPhase || (o.CutoverAllowed ? "allowed" : "held back"), o.Cutover.Aborts > 0 ? `given up ${o.Cutover.Aborts === 1 ? "once" : `${o.Cutover.Aborts} times`}` : ""],
  ]);
}

export function showVerification(area, v) {
  if (!v.Type || v.Type === "NoVerification") {
    area.replaceChildren(element("p", "This run compares nothing.", "muted"));
    return;
  }
  let list = area.querySelector("dl");
  if (!list) {
    list = element("dl", undefined, "tiles");
    const meter = element("div", undefined, "meter");
    meter.setAttribute("role", "progressbar");
    meter.setAttribute("aria-label", "Tables compared");
    meter.setAttribute("aria-valuemin", "0");
    meter.setAttribute("aria-valuemax", "100");
    meter.append(element("div"));
    area.replaceChildren(meter, list, element("p", "", "muted"));
  }
  const meter = area.querySelector(".meter");
  meter.hidden = !v.Detailed;
  setMeter(meter, v.TablesTotal ? v.TablesDone / v.TablesTotal : 0, v.Mismatches > 0 ? "bad" : "");
  const verdict = v.Correct == null ? (v.Started && !v.Done ? "running" : "none yet") : v.Correct ? "equal" : "different";
  fillTiles(list, v.Detailed
    ? [
        ["Verifier", v.Type],
        ["Rows compared", format.compact(v.RowsCompared)],
        ["Tables", `${format.count(v.TablesDone)} of ${format.count(v.TablesTotal)}`],
        ["To compare again", `${format.compact(v.KeysQueued)} keys`, v.RangesQueued ? format.plural(v.RangesQueued, "range") : ""],
        ["Rows that differ", format.count(v.Mismatches), v.Repaired ? `${v.Repaired} repaired` : ""],
        ["Verdict", verdict],
      ]
    : [["Verifier", v.Type], ["Verdict", verdict]]);
  area.querySelector("p").textContent = v.Verdict || (v.Detailed ? "" : v.Message);
}

const causes = {
  throttled: "throttled", source_outage: "source cannot be used", target_outage: "target cannot be used", conflict: "collision with others", row_lock: "rows locked on the source",
  barrier: "source has to commit", chunk: "chunk being copied", queue_full: "writer's queue is full", cutover_permission: "cutover not allowed",
  paced: "copy is paced", late: "copy lets late changes go first", applied: "changes on their way to the target", index: "index being created", replica: "replica behind its primary",
  other_move: "row of another move in the way", next_cutover: "pause before the next cutover",
};

// showWaits lists the causes that have occurred.
export function showWaits(body, all) {
  const waits = all.filter((w) => w.Count > 0);
  document.getElementById("waits-empty").hidden = waits.length > 0;
  body.parentElement.hidden = waits.length === 0;
  while (body.children.length > waits.length) body.lastChild.remove();
  waits.forEach((w, i) => {
    let row = body.children[i];
    if (!row) {
      row = element("tr");
      for (let n = 0; n < 4; n++) row.append(element("td", "", n ? "number" : ""));
      body.append(row);
    }
    row.className = w.Waiting > 0 ? "now" : "";
    [causes[w.Cause] ?? w.Cause, format.count(w.Waiting), format.compact(w.Count), w.Seconds < 1 ? `${Math.round(w.Seconds * 1000)} ms` : format.duration(w.Seconds)]
      .forEach((text, n) => { if (row.children[n].textContent !== text) row.children[n].textContent = text; });
  });
}
