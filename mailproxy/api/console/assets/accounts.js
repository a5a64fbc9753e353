// The accounts mail goes through: whether they work, what they may, what they do.

import { current, get, mayControl, post, query } from "./api.js";
import { ask } from "./dialog.js";
import { button, cardsIn, facts, h, show, state } from "./dom.js";
import { count, duration, plural, time } from "./format.js";
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

/** How it stands with an account. */
function about(account) {
  return [
    h("h2", null, account.id, account.name && account.name !== account.id ? h("span", { class: "quiet" }, ` ${account.name}`) : null, " ", state(standing(account))),
    account.parked_reason ? h("p", { class: "reason is-bad" }, `Parked since ${time(account.parked_since)}: ${account.parked_reason}. `, account.probe_at ? `Next try ${time(account.probe_at)}.` : null) : null,
    account.held_since !== null ? h("p", { class: "reason" }, `Paused since ${time(account.held_since)}.`) : null,
    account.limited_until ? h("p", { class: "reason" }, `Its limit has room again ${time(account.limited_until)}. `, account.limited_reason) : null,
    facts([
      ["Tenant", current().admin ? account.tenant_id : null], ["Server", `${account.host}:${account.port}`], ["TLS", account.tls_mode],
      ["User", account.user], ["Sessions", `${count(account.sessions)} of ${count(account.max_sessions)}`], ["Limits used", limits(account)],
      ["Default", account.is_default ? "yes" : null], ["Fallback", (account.fallback || []).join(", ")], ["Declared", account.declared ? "in the configuration" : null],
    ]),
  ];
}

export function accountsPage(main, place, announce) {
  const list = h("div", { class: "cards" });
  const note = h("p", { class: "note", role: "status" });
  const path = (account, what) => `/v1/accounts/${encodeURIComponent(account.id)}/${what}${query({ tenant_id: account.tenant_id })}`;

  async function decide(account, what, title, text, action) {
    const done = await ask({ title, text, action, run: (reason) => post(path(account, what), reason ? { reason } : {}) });
    if (!done) return;
    const told = done.changed ? `${account.id}: ${what === "hold" ? "paused" : "released"}. ${plural(done.waiting, "message")} of it waiting.` : `Nothing was changed: ${done.reason}`;
    note.textContent = told;
    announce(told);
    end.refresh();
  }

  async function test(account, pressed, out) {
    pressed.disabled = true;
    show(out, h("p", { class: "quiet" }, "Trying ..."));
    try {
      const result = await post(path(account, "test"));
      show(out, tested(result));
      announce(result.works ? `${account.id} works` : `${account.id} does not work: ${result.problem}`);
    } catch (problem) {
      show(out, h("p", { class: "problem", role: "alert" }, problem.message));
    } finally {
      pressed.disabled = false;
    }
  }

  /** What can be done with an account that is held, or is not. */
  function acts(account, held, out) {
    if (!mayControl()) return null;
    const decision = held
      ? button("Release", () => decide(account, "release", `Release ${account.id}`, "Its mail goes on.", "Release"))
      : button("Pause", () => decide(account, "hold", `Pause ${account.id}`, "Nothing more of its mail is begun, and what is new waits as well; its age does not run.", "Pause"));
    return [decision, button("Test connection", (event) => test(account, event.currentTarget, out))];
  }

  function card(key) {
    const head = h("div");
    const actions = h("div", { class: "actions" });
    const out = h("div", { class: "test", "aria-live": "polite" });
    let held = null;
    return {
      element: h("section", { class: "panel", "data-account": key }, head, actions, out),
      set(account) {
        show(head, about(account));
        if (held === (account.held_since !== null)) return;
        held = account.held_since !== null;
        const focused = actions.contains(document.activeElement);
        show(actions, acts(account, held, out), h("a", { href: `#/messages${query({ account: account.id, tenant: current().admin ? account.tenant_id : "" })}` }, "Messages"));
        if (focused) actions.firstElementChild.focus();
      },
    };
  }

  const cards = cardsIn(list, card, "There are no accounts yet.");
  const update = async () => cards((await get("/accounts")).accounts, (account) => `${account.tenant_id}/${account.id}`);

  show(main, h("h1", null, "Accounts"), note, list);
  const end = follow(update, (problem) => {
    if (problem) show(note, h("span", { class: "problem" }, problem.message));
  });
  return end;
}
