// The tail of the run's log.

import * as format from "./format.js";
import { element } from "./overview.js";

const keep = 500;
const order = ["trace", "debug", "info", "warning", "error", "fatal", "panic"];

export class Log {
  constructor(list, level, follow) {
    Object.assign(this, { list, level, follow, last: 0 });
    level.addEventListener("change", () => {
      for (const line of list.children) line.hidden = !this.wanted(line.dataset.level);
      this.toEnd();
    });
    list.addEventListener("scroll", () => {
      follow.checked = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
    });
    follow.addEventListener("change", () => this.toEnd());
  }

  wanted(level) {
    return order.indexOf(level) >= order.indexOf(this.level.value);
  }

  add(lines) {
    const follows = this.follow.checked;
    for (const line of lines) {
      if (line.Seq <= this.last) continue;
      this.last = line.Seq;
      const item = element("li");
      item.dataset.level = line.Level;
      item.hidden = !this.wanted(line.Level);
      const time = element("time", format.clock(line.Time));
      time.dateTime = line.Time;
      const text = element("span", line.Message, "text");
      const fields = Object.entries(line.Fields ?? {}).filter(([name]) => name !== "run").map(([name, value]) => `${name}=${value}`);
      if (fields.length) text.append(" ", element("span", fields.join(" "), "fields"));
      item.append(time, element("span", line.Level, "level"), text);
      this.list.append(item);
    }
    while (this.list.children.length > keep) this.list.firstChild.remove();
    this.follow.checked = follows;
    this.toEnd();
  }

  toEnd() {
    if (this.follow.checked) this.list.scrollTop = this.list.scrollHeight;
  }
}
