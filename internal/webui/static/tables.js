// The list of tables, a page at a time, and the detail of one of them.

import * as format from "./format.js";
import { element, fillTiles, setMeter } from "./overview.js";

const $ = (id) => document.getElementById(id);
const limit = 50;

// rowsCopied counts those of earlier processes, which a server of an older version does not tell.
const rowsCopied = (table) => table.RowsWritten + (table.RowsWrittenBefore ?? 0);

const badges = { waiting: "idle", copying: "run", completed: "good" };

export class Tables {
  // changed is called when another page is wanted.
  constructor(changed) {
    Object.assign(this, { changed, sort: "status", order: "asc", offset: 0, matching: 0, detail: "", rows: [] });
    let typing;
    $("search").addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.from(0), 200);
    });
    $("status").addEventListener("change", () => this.from(0));
    for (const button of document.querySelectorAll("#tables th button")) {
      button.addEventListener("click", () => this.sortBy(button));
    }
    $("page-first").addEventListener("click", () => this.from(0));
    $("page-previous").addEventListener("click", () => this.from(this.offset - limit));
    $("page-next").addEventListener("click", () => this.from(this.offset + limit));
    $("page-last").addEventListener("click", () => this.from(Math.floor(Math.max(0, this.matching - 1) / limit) * limit));
    $("detail").addEventListener("close", () => {
      this.detail = "";
      this.changed();
    });
  }

  query() {
    const query = { sort: this.sort, order: this.order, offset: this.offset, limit, search: $("search").value.trim(), status: $("status").value };
    if (this.detail) query.table = this.detail;
    return query;
  }

  from(offset) {
    this.offset = Math.max(0, offset);
    this.changed();
  }

  sortBy(button) {
    const same = this.sort === button.dataset.sort;
    const numeric = ["rows", "bytes", "progress"].includes(button.dataset.sort);
    this.order = same ? (this.order === "asc" ? "desc" : "asc") : numeric ? "desc" : "asc";
    this.sort = button.dataset.sort;
    for (const head of document.querySelectorAll("#tables th")) head.setAttribute("aria-sort", "none");
    button.parentElement.setAttribute("aria-sort", this.order === "asc" ? "ascending" : "descending");
    this.from(0);
  }

  show(page) {
    this.matching = page.Matching;
    this.offset = page.Offset;
    const body = $("tables-body");
    while (body.children.length > page.Tables.length) body.lastChild.remove();
    page.Tables.forEach((table, i) => this.fill(body.children[i] ?? body.appendChild(this.row()), table));
    $("tables").hidden = $("tables-paging").hidden = page.Total === 0;
    const empty = $("tables-empty");
    empty.hidden = page.Tables.length > 0;
    empty.textContent = page.Total === 0 ? "This run has no tables." : "No table fits the search.";
    const last = page.Offset + page.Tables.length;
    const text = page.Matching === 0 ? "0 tables"
      : `${format.count(page.Offset + 1)}–${format.count(last)} of ${format.count(page.Matching)}${page.Matching < page.Total ? ` (${format.count(page.Total)} in all)` : ""}`;
    if ($("page-text").textContent !== text) $("page-text").textContent = text;
    $("page-first").disabled = $("page-previous").disabled = page.Offset === 0;
    $("page-next").disabled = $("page-last").disabled = last >= page.Matching;
    this.rows = page.Tables;
    const detailed = page.Tables.find((table) => table.Name === this.detail);
    if (detailed) this.showDetail(detailed);
  }

  row() {
    const row = element("tr");
    const name = element("td");
    const button = element("button", "", "name");
    button.type = "button";
    button.addEventListener("click", () => this.open(button.textContent));
    name.append(button, element("span", "", "target"));
    const status = element("td");
    status.append(element("span", "", "badge"));
    const progress = element("td");
    const cell = element("div", undefined, "progress-cell");
    const meter = element("div", undefined, "meter");
    meter.setAttribute("role", "progressbar");
    meter.setAttribute("aria-valuemin", "0");
    meter.setAttribute("aria-valuemax", "100");
    meter.append(element("div"));
    cell.append(meter, element("span", "", "number"));
    progress.append(cell);
    row.append(name, status, progress, element("td", "", "number"), element("td", "", "number"));
    return row;
  }

  fill(row, table) {
    const shown = JSON.stringify(table);
    if (row.shown === shown) return;
    row.shown = shown;
    const [name, status, progress, rows, bytes] = row.children;
    name.children[0].textContent = table.Name;
    name.children[1].textContent = table.Target ? `→ ${table.Target}` : "";
    status.firstChild.textContent = table.Status;
    status.firstChild.dataset.kind = badges[table.Status];
    const meter = progress.firstChild.firstChild;
    meter.setAttribute("aria-label", `Copy of ${table.Name}`);
    setMeter(meter, table.Fraction, table.Status === "completed" ? "good" : "");
    const copied = rowsCopied(table);
    const outgrown = table.Status === "copying" && copied >= table.RowsEstimate;
    progress.firstChild.lastChild.textContent = outgrown ? "? %" : format.percent(table.Fraction);
    rows.textContent = table.Status === "completed" || outgrown ? format.count(copied)
      : `${format.compact(copied)} of ≈ ${format.compact(table.RowsEstimate)}`;
    bytes.textContent = table.BytesWritten === 0 && copied > 0 ? "–" : format.size(table.BytesWritten); // nobody knows those of earlier processes
  }

  open(name) {
    this.detail = name;
    $("chunk-map").replaceChildren();
    $("chunk-text").textContent = "";
    const table = this.rows.find((row) => row.Name === name);
    if (table) this.showDetail(table);
    $("detail").showModal();
    this.changed();
  }

  showDetail(table) {
    $("detail-heading").textContent = table.Name;
    fillTiles($("detail-tiles"), [
      ["Status", table.Status, table.Target ? `→ ${table.Target}` : ""],
      ["Rows copied", format.count(rowsCopied(table)), `about ${format.count(table.RowsEstimate)} at the start`],
      ["Copied", format.size(table.BytesWritten), table.RowsWrittenBefore > 0 ? `${format.count(table.RowsWritten)} rows by this process` : ""],
      ["Key", table.KeyColumn || "–"],
      ["Copied up to", table.LastKey || "–", table.TargetKey ? `of ${table.TargetKey}` : ""],
      ["Batch", table.BatchSize ? `${format.count(table.BatchSize)} rows` : "by size"],
    ]);
  }

  showChunks(chunks) {
    if (chunks.Table !== this.detail) return;
    const map = $("chunk-map");
    const copying = new Set(chunks.Copying);
    while (map.children.length > chunks.Copied.length) map.lastChild.remove();
    chunks.Copied.forEach((part, i) => {
      const cell = map.children[i] ?? map.appendChild(element("i"));
      cell.dataset.part = part >= 100 ? 3 : part >= 50 ? 2 : part > 0 ? 1 : 0;
      if (copying.has(i)) cell.dataset.now = "";
      else delete cell.dataset.now;
    });
    const text = chunks.Reason || `Keys ${format.count(chunks.From)} to ${format.count(chunks.To)}, ${format.plural(chunks.Ranges, "range")} copied, ${format.plural(chunks.ChunksInFlight, "chunk")} under way`;
    $("chunk-text").textContent = text;
    map.setAttribute("aria-label", text);
  }
}
