// Who hands mail over, and whether they are told what became of it.

import { current, get, mayControl, post } from "./api.js";
import { button, cardsIn, facts, h, show, state, table } from "./dom.js";
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

/** How it stands with a tenant. */
function about({ id, name, active, url, sync }) {
  const failing = sync && sync.last_error;
  const word = active === false ? "paused" : failing ? "failed" : "active";
  return [
    h("h2", null, id, name && name !== id ? h("span", { class: "quiet" }, ` ${name}`) : null, " ", state(word, { active: "active", paused: "inactive", failed: "reports fail" }[word])),
    failing ? h("p", { class: "reason is-bad" }, `Reports fail: ${sync.last_error}`) : null,
    facts([
      ["Reports go to", url], ["Report lag", sync ? duration(sync.report_lag_seconds) : null],
      ["Last sync", sync ? ago(sync.last_sync_ts) : null], ["Next sync", sync && sync.next_sync_due ? time(sync.next_sync_due) : null],
      ["Asked not to be called", sync && sync.in_dnd ? "yes" : null],
    ]),
  ];
}

export function tenantsPage(main) {
  const list = h("div", { class: "cards" });
  const note = h("p", { class: "note", role: "status" });

  async function test(id, event) {
    const pressed = event.currentTarget;
    const out = pressed.closest(".panel").querySelector(".test");
    pressed.disabled = true;
    show(out, h("p", { class: "quiet" }, "Trying ..."));
    try {
      const result = await post(`/v1/tenants/${encodeURIComponent(id)}/test-sync`);
      show(out, tested(result));
    } catch (problem) {
      show(out, h("p", { class: "problem", role: "alert" }, problem.message));
    } finally {
      pressed.disabled = false;
    }
  }

  /** The keys of a tenant, which are asked for when somebody wants to see them. */
  function keys(id) {
    const out = h("div");
    const load = async () => {
      try {
        show(out, keyTable((await get(`/v1/tenants/${encodeURIComponent(id)}/keys`)).keys));
      } catch (problem) {
        show(out, h("p", { class: "problem", role: "alert" }, problem.message));
      }
    };
    const element = h("details", { ontoggle: () => element.open && load() }, h("summary", null, "Keys"), out);
    element.open = !current().admin;
    return element;
  }

  function card(id) {
    const head = h("div");
    const element = h("section", { class: "panel", "data-tenant": id }, head, keys(id),
      h("div", { class: "actions" }, mayControl() ? button("Test report", (event) => test(id, event)) : null, h("a", { href: `#/messages?tenant=${encodeURIComponent(id)}` }, "Messages")),
      h("div", { class: "test", "aria-live": "polite" }));
    return { element, set: (tenant) => show(head, about(tenant)) };
  }

  async function all() {
    const [{ tenants }, { tenants: syncs }] = await Promise.all([get("/tenants"), get("/tenants/sync-status")]);
    const found = new Map(syncs.map((each) => [each.id, each]));
    return tenants.map((each) => ({ id: each.id, name: each.name, active: each.active, url: each.client_sync_url || each.client_base_url, sync: found.get(each.id) }));
  }

  const cards = cardsIn(list, card, "No tenants are registered.");
  const update = async () => cards(current().admin ? await all() : [{ id: current().tenant_id }], (tenant) => tenant.id);

  show(main, h("h1", null, current().admin ? "Tenants" : "Tenant"), note, list);
  return follow(update, (problem) => {
    show(note, problem ? h("span", { class: "problem" }, problem.message) : null);
  }, 30);
}
