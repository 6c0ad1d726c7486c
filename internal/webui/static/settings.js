// Settings that can be changed while the run goes on.

import { element } from "./overview.js";

const $ = (id) => document.getElementById(id);

// fields are name, label, kind and, where a number can be 0 or negative, what that means.
const fields = [
  ["DataIterationBatchSize", "Rows of a batch", "number", "0: as many as the rows' size allows."],
  ["DataIterationConcurrency", "Chunks copied side by side", "number"],
  ["BinlogApplyLanes", "Lanes that apply changes", "number"],
  ["MaxWriteBlock", "Longest write block (like 500ms)", "text", "0, or negative like -1s: as long as it takes."],
  ["MaxLag", "Lag limit of throttlers (s)", "number", "0: each throttler's own."],
  ["MaxThreadsRunning", "Threads_running limit", "number", "0: each throttler's own. Negative: none."],
  ["MaxHistoryListLength", "History list limit", "number", "0: each throttler's own. Negative: none."],
  ["LogLevel", "Log level", ["", "debug", "info", "warn", "error"]],
];

export class Settings {
  // act sends an order.
  constructor(act) {
    this.inputs = fields.map(([name, label, kind, zero]) => {
      const input = element(Array.isArray(kind) ? "select" : "input");
      if (Array.isArray(kind)) input.append(...kind.map((value) => Object.assign(element("option", value || "unchanged"), { value })));
      else input.type = kind;
      input.id = `setting-${name}`;
      input.name = name;
      const caption = element("label", label);
      caption.htmlFor = input.id;
      $("settings-fields").append(caption, input);
      if (zero) {
        const note = element("small", zero, "muted");
        note.id = `${input.id}-zero`;
        input.setAttribute("aria-describedby", note.id);
        $("settings-fields").append(note);
      }
      return input;
    });
    $("settings-cancel").addEventListener("click", () => $("settings").close());
    $("settings-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      const order = {};
      for (const input of this.inputs) {
        const value = input.value.trim();
        if (value === "" || value === input.dataset.before) continue;
        if (/^[^1-9]*0[^1-9]*$/.test(value)) { // an order of 0, also of 0h0m, is none
          $("settings-error").textContent = `${input.labels[0].textContent}: 0 is for the configuration, a run that goes on cannot go back to it.`;
          return;
        }
        order[input.name] = input.type === "number" ? Number(value) : value;
      }
      if (Object.keys(order).length === 0 || await act("The settings were changed.", "/api/config", order)) $("settings").close();
      else $("settings-error").textContent = $("control-result").textContent;
    });
  }

  open(settings) {
    $("settings-error").textContent = "";
    for (const input of this.inputs) {
      input.value = input.tagName === "SELECT" ? "" : String(settings[input.name] || 0); // 0 is left out of the document
      input.dataset.before = input.value;
    }
    $("settings").showModal();
    this.inputs[0].focus();
  }
}
