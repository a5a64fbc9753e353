// What was changed, by whom and when.

import { get, query } from "./api.js";
import { button, h, show, table } from "./dom.js";
import { instant, time } from "./format.js";

const PAGE = 100;

const COLUMNS = [["When", ""], ["Command", "mono"], ["By", ""], ["Tenant", ""], ["What", "wide mono"]];

function row(line) {
  const detail = Object.entries(line.detail).map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");
  return [h("time", { title: instant(line.command_ts) }, time(line.command_ts)), line.command, line.who, line.tenant_id || "", detail];
}

export function logPage(main, place, announce) {
  const list = h("div");
  const more = h("div", { class: "pager" });
  const cursors = [null];

  async function update() {
    try {
      const found = await get(`/command-log${query({ limit: PAGE, cursor: cursors.at(-1) })}`);
      show(list, table("Commands, newest first", COLUMNS, found.commands.map(row), "Nothing was changed yet."));
      show(more,
        cursors.length > 1 ? button("Newer page", () => turn(cursors.slice(0, -1))) : null,
        found.next ? button("Older page", () => turn([...cursors, found.next])) : null,
        button("Refresh", update));
    } catch (problem) {
      show(list, h("p", { class: "problem", role: "alert" }, problem.message));
    }
  }

  function turn(to) {
    cursors.splice(0, cursors.length, ...to);
    announce(`Page ${cursors.length}`);
    return update();
  }

  show(main, h("h1", null, "Log of commands"), h("section", { class: "panel", "aria-label": "Commands" }, list, more));
  update();
}
