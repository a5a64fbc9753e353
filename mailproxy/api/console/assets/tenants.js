// Who hands mail over, and whether they are told what became of it.

import { current, get, mayControl, post } from "./api.js";
import { button, facts, h, show, state, table } from "./dom.js";
import { ago, duration, time } from "./format.js";
import { follow } from "./live.js";

function keyTable(keys) {
  return table("Keys", [["Key", "mono"], ["Label", "wide"], ["May", ""], ["From", ""], ["Last used", "short"], ["Ends", "short"]],
    keys.map((key) => [`${key.prefix}…`, key.label, [key.scopes.join(", "), key.test ? " (tests)" : ""], key.networks.join(", ") || "anywhere", ago(key.used_at), key.expires_at ? time(key.expires_at) : "never"]),
    "No key is good now.");
}

function tested(result) {
  return h("p", { class: `result is-${result.acknowledged ? "good" : "bad"}` },
    result.acknowledged ? `The report was taken, in ${duration(result.seconds)}.` : `The report was not taken: ${result.problem}`);
}

export function tenantsPage(main, place, announce) {
  const list = h("div", { class: "cards" });
  const results = new Map();
  let shown = "";

  async function test(id, event) {
    const pressed = event.currentTarget;
    const out = pressed.closest(".panel").querySelector(".test");
    pressed.disabled = true;
    show(out, h("p", { class: "quiet" }, "Trying ..."));
    try {
      const result = await post(`/v1/tenants/${encodeURIComponent(id)}/test-sync`);
      results.set(id, result);
      show(out, tested(result));
    } catch (problem) {
      show(out, h("p", { class: "problem", role: "alert" }, problem.message));
    } finally {
      pressed.disabled = false;
    }
  }

  function card({ id, name, active, url, sync, keys }) {
    const failing = sync && sync.last_error;
    const word = active === false ? "paused" : failing ? "failed" : "active";
    return h("section", { class: "panel", "data-tenant": id },
      h("h2", null, id, name && name !== id ? h("span", { class: "quiet" }, ` ${name}`) : null, " ", state(word, { active: "active", paused: "inactive", failed: "reports fail" }[word])),
      failing ? h("p", { class: "reason is-bad" }, `Reports fail: ${sync.last_error}`) : null,
      facts([
        ["Reports go to", url], ["Report lag", sync && sync.report_lag_seconds !== undefined ? duration(sync.report_lag_seconds) : null],
        ["Last sync", sync ? ago(sync.last_sync_ts) : null], ["Next sync", sync && sync.next_sync_due ? time(sync.next_sync_due) : null],
        ["Asked not to be called", sync && sync.in_dnd ? "yes" : null],
      ]),
      keyTable(keys),
      h("div", { class: "actions" }, mayControl() ? button("Test report", (event) => test(id, event)) : null, h("a", { href: `#/messages?tenant=${encodeURIComponent(id)}` }, "Messages")),
      h("div", { class: "test", "aria-live": "polite" }, results.has(id) ? tested(results.get(id)) : null));
  }

  async function all() {
    const [{ tenants }, { tenants: syncs }] = await Promise.all([get("/tenants"), get("/tenants/sync-status")]);
    const found = new Map(syncs.map((each) => [each.id, each]));
    const keys = await Promise.all(tenants.map((each) => get(`/v1/tenants/${encodeURIComponent(each.id)}/keys`)));
    return tenants.map((each, n) => ({ id: each.id, name: each.name, active: each.active, url: each.client_sync_url || each.client_base_url, sync: found.get(each.id), keys: keys[n].keys }));
  }

  async function own() {
    const id = current().tenant_id;
    const { keys } = await get(`/v1/tenants/${encodeURIComponent(id)}/keys`);
    return [{ id, keys }];
  }

  async function update() {
    const found = current().admin ? await all() : await own();
    const text = JSON.stringify(found);
    if (text === shown) return;
    shown = text;
    show(list, found.length ? found.map(card) : h("p", { class: "empty" }, "No tenants are registered."));
  }

  show(main, h("h1", null, current().admin ? "Tenants" : "Tenant"), list);
  return follow(update, (problem) => {
    if (!problem) return;
    shown = "";
    show(list, h("p", { class: "problem", role: "alert" }, problem.message));
  }, 30);
}
