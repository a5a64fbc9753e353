// The accounts mail goes through: whether they work, what they may, what they do.

import { current, get, mayControl, post, query } from "./api.js";
import { ask } from "./dialog.js";
import { button, facts, h, show, state } from "./dom.js";
import { count, duration, plural, since, time } from "./format.js";
import { follow } from "./live.js";

const UNITS = [["minute", "limit_per_minute", "per_minute"], ["hour", "limit_per_hour", "per_hour"], ["day", "limit_per_day", "per_day"]];

function standing(account) {
  if (account.parked_reason) return "parked";
  if (account.held_since) return "paused";
  return account.limited_until ? "limited" : "active";
}

function limits(account) {
  const lines = UNITS.filter(([, limit]) => account[limit]).map(([unit, limit, used]) => {
    const taken = (account.used || {})[used] || 0;
    return h("div", { class: "limit" }, h("meter", { min: 0, max: account[limit], value: taken, high: account[limit] * 0.9, "aria-label": `used per ${unit}` }),
      ` ${count(taken)} of ${count(account[limit])} per ${unit}`);
  });
  return lines.length ? lines : null;
}

function tested(result) {
  return h("div", { class: `result is-${result.works ? "good" : "bad"}` },
    h("p", null, h("strong", null, result.works ? "It works." : `It does not work: ${result.problem}`)),
    facts([["Server", result.peer], ["TLS", result.tls || "in clear"], ["Logged in", result.logged_in ? "yes" : "no"], ["Ended at", result.phase],
      ["Took", duration(result.seconds)], ["Offers", result.offers.join(" ")], ["Notes", result.notes.join("; ")]]));
}

export function accountsPage(main, place, announce) {
  const list = h("div", { class: "cards" });
  const note = h("p", { class: "note" });
  const results = new Map();
  let shown = "";

  const key = (account) => `${account.tenant_id}/${account.id}`;
  const path = (account, what) => `/v1/accounts/${encodeURIComponent(account.id)}/${what}${query({ tenant_id: account.tenant_id })}`;

  async function decide(account, what, title, text, action) {
    const done = await ask({ title, text, action, run: (reason) => post(path(account, what), reason ? { reason } : {}) });
    if (!done) return;
    const told = done.changed ? `${account.id}: ${what === "hold" ? "paused" : "released"}. ${plural(done.waiting, "message")} of it waiting.` : `Nothing was changed: ${done.reason}`;
    note.textContent = told;
    announce(told);
    end.refresh();
  }

  async function test(account, event) {
    const pressed = event.currentTarget;
    const out = pressed.closest(".panel").querySelector(".test");
    pressed.disabled = true;
    show(out, h("p", { class: "quiet" }, "Trying ..."));
    try {
      const result = await post(path(account, "test"));
      results.set(key(account), result);
      show(out, tested(result));
      announce(result.works ? `${account.id} works` : `${account.id} does not work: ${result.problem}`);
    } catch (problem) {
      show(out, h("p", { class: "problem", role: "alert" }, problem.message));
    } finally {
      pressed.disabled = false;
    }
  }

  function card(account) {
    const held = account.held_since !== null;
    const acts = mayControl() ? h("div", { class: "actions" },
      held
        ? button("Release", () => decide(account, "release", `Release ${account.id}`, "Its mail goes on.", "Release"))
        : button("Pause", () => decide(account, "hold", `Pause ${account.id}`, "Nothing more of its mail is begun, and what is new waits as well; its age does not run.", "Pause")),
      button("Test connection", (event) => test(account, event)),
      h("a", { href: `#/messages${query({ account: account.id, tenant: current().admin ? account.tenant_id : "" })}` }, "Messages")) : null;
    const result = results.get(key(account));
    return h("section", { class: "panel", "data-account": key(account) },
      h("h2", null, account.id, account.name && account.name !== account.id ? h("span", { class: "quiet" }, ` ${account.name}`) : null, " ", state(standing(account))),
      account.parked_reason ? h("p", { class: "reason is-bad" }, `Parked for ${since(account.parked_since)}: ${account.parked_reason}. `, account.probe_at ? `Next try ${time(account.probe_at)}.` : null) : null,
      held ? h("p", { class: "reason" }, `Paused for ${since(account.held_since)}.`) : null,
      account.limited_until ? h("p", { class: "reason" }, `Its limit has room again ${time(account.limited_until)}. `, account.limited_reason) : null,
      facts([
        ["Tenant", current().admin ? account.tenant_id : null], ["Server", `${account.host}:${account.port}`], ["TLS", account.tls_mode],
        ["User", account.user], ["Sessions", `${count(account.sessions)} of ${count(account.max_sessions)}`], ["Limits used", limits(account)],
        ["Default", account.is_default ? "yes" : null], ["Fallback", (account.fallback || []).join(", ")], ["Declared", account.declared ? "in the configuration" : null],
      ]),
      acts, h("div", { class: "test", "aria-live": "polite" }, result ? tested(result) : null));
  }

  async function update() {
    const { accounts } = await get("/accounts");
    const text = JSON.stringify(accounts);
    if (text === shown) return;
    shown = text;
    const focused = document.activeElement;
    const where = list.contains(focused) ? [focused.closest(".panel").dataset.account, focused.textContent] : null;
    show(list, accounts.length ? accounts.map(card) : h("p", { class: "empty" }, "There are no accounts yet."));
    if (where) {
      const again = [...list.children].find((each) => each.dataset.account === where[0]);
      if (again) ([...again.querySelectorAll("button, a")].find((each) => each.textContent === where[1]) || again.querySelector("button"))?.focus();
    }
  }

  show(main, h("h1", null, "Accounts"), note, list);
  const end = follow(update, (problem) => {
    if (!problem) return;
    shown = "";
    show(list, h("p", { class: "problem", role: "alert" }, problem.message));
  });
  return end;
}
