// Settings that can be changed while the run goes on.

import { element } from "./overview.js";

const $ = (id) => document.getElementById(id);

const fields = [
  ["DataIterationBatchSize", "Rows of a batch", "number"],
  ["DataIterationConcurrency", "Chunks copied side by side", "number"],
  ["BinlogApplyLanes", "Lanes that apply changes", "number"],
  ["MaxWriteBlock", "Longest write block (like 500ms)", "text"],
  ["MaxLag", "Lag limit of throttlers (s)", "number"],
  ["MaxThreadsRunning", "Threads_running limit", "number"],
  ["MaxHistoryListLength", "History list limit", "number"],
  ["LogLevel", "Log level", ["", "debug", "info", "warn", "error"]],
];

export class Settings {
  // act sends an order.
  constructor(act) {
    this.inputs = fields.map(([name, label, kind]) => {
      const input = element(Array.isArray(kind) ? "select" : "input");
      if (Array.isArray(kind)) input.append(...kind.map((value) => Object.assign(element("option", value || "unchanged"), { value })));
      else input.type = kind;
      input.id = `setting-${name}`;
      input.name = name;
      const caption = element("label", label);
      caption.htmlFor = input.id;
      $("settings-fields").append(caption, input);
      return input;
    });
    $("settings-cancel").addEventListener("click", () => $("settings").close());
    $("settings-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      const order = {};
      for (const input of this.inputs) {
        const value = input.value.trim();
        if (value !== "" && value !== input.dataset.before) order[input.name] = input.type === "number" ? Number(value) : value;
      }
      if (Object.keys(order).length === 0 || await act("The settings were changed.", "/api/config", order)) $("settings").close();
      else $("settings-error").textContent = $("control-result").textContent;
    });
  }

  open(settings) {
    $("settings-error").textContent = "";
    for (const input of this.inputs) {
      const value = settings[input.name];
      input.value = value == null || value === 0 ? "" : String(value);
      if (input.tagName === "SELECT") input.value = "";
      input.dataset.before = input.value;
    }
    $("settings").showModal();
    this.inputs[0].focus();
  }
}
