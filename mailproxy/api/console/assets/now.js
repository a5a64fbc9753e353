// How it stands, the last hour, and what needs a person.

import { current, get } from "./api.js";
import { h, panel, show, state } from "./dom.js";
import { count, duration, rate, share, time } from "./format.js";
import * as live from "./live.js";
import { plot } from "./plot.js";

const STATES = ["queued", "in_flight", "deferred", "held", "uncertain"];

function tile(name, note) {
  const value = h("span", { class: "value" }, "–");
  const below = h("span", { class: "quiet" }, note);
  const element = h("div", { class: "tile" }, h("span", { class: "name" }, name), value, below);
  return {
    element,
    set(text, more = note, kind = "") {
      if (value.textContent !== text) value.textContent = text;
      if (below.textContent !== more) below.textContent = more;
      element.className = `tile ${kind}`;
    },
  };
}

/** The queue as bars; `set` changes what is there, so that nobody loses their place. */
function bars() {
  const lines = STATES.map((name) => {
    const bar = h("span", { class: `bar-fill is-${name}` });
    const number = h("span", { class: "number" }, "–");
    const line = h("li", null, h("a", { href: `#/messages?state=${name}` }, state(name)),
      h("span", { class: "track", "aria-hidden": "true" }, bar), number);
    return { name, bar, number, line };
  });
  return {
    element: h("ul", { class: "bars" }, lines.map((each) => each.line)),
    set(queue) {
      const most = Math.max(1, ...STATES.map((name) => queue[name] || 0));
      for (const { name, bar, number } of lines) {
        const text = count(queue[name] || 0);
        if (number.textContent !== text) number.textContent = text;
        bar.style.width = `${(100 * (queue[name] || 0)) / most}%`;
      }
    },
  };
}

/** What needs a person, worst first: [kind, text, address]. */
async function worries() {
  const admin = current().admin;
  const asked = [get("/accounts"), get("/status"), admin ? get("/tenants/sync-status") : { tenants: [] }];
  const [{ accounts }, status, { tenants }] = await Promise.all(asked);
  const found = [];
  if (!status.active) found.push(["bad", "Sending is suspended.", "#/accounts"]);
  for (const batch of status.suspended_batches.filter((each) => each !== "*")) {
    found.push(["warn", `Batch ${batch} is suspended.`, `#/messages?batch=${encodeURIComponent(batch)}`]);
  }
  for (const account of accounts) {
    const name = admin && account.tenant_id !== "default" ? `${account.tenant_id} / ${account.id}` : account.id;
    const to = "#/accounts";
    if (account.parked_reason) found.push(["bad", `Account ${name} is parked since ${time(account.parked_since)}: ${account.parked_reason}`, to]);
    else if (account.held_since) found.push(["warn", `Account ${name} is paused since ${time(account.held_since)}.`, to]);
    else if (account.limited_until) found.push(["warn", `Account ${name} waits for its limit: ${account.limited_reason || ""}`, to]);
  }
  for (const tenant of tenants) {
    if (tenant.last_error) found.push(["bad", `Reports to ${tenant.id} fail: ${tenant.last_error}`, "#/tenants"]);
  }
  return found;
}

export function nowPage(main) {
  const tiles = {
    sent: tile("Sent per second", "mean of the last minute"),
    waiting: tile("Waiting", "messages that are not final"),
    due: tile("Oldest due", "age of what is due longest"),
    errors: tile("Error rate", "of what ended in 5 min"),
    deferred: tile("Deferred", "attempts in the last minute"),
  };
  const queue = bars();
  const notices = h("div", { "aria-live": "polite" });
  const flow = plot("Throughput", "messages per minute", [
    ["sent", "is-sent", "sent", true], ["deferred", "is-deferred", "deferred", true], ["failed", "is-failed", "failed", true],
  ]);
  const waiting = plot("Waiting", "messages", [["waiting", "is-queued", "pending", false]]);
  show(main, h("h1", null, "Now"),
    h("div", { class: "tiles" }, Object.values(tiles).map((each) => each.element)),
    h("div", { class: "columns" }, panel("Queue by state", queue.element), panel("Needs attention", notices)),
    panel("Last hour", h("div", { class: "columns" }, flow, waiting)));

  function draw(what) {
    const { figures, steps, step } = live.now;
    if (what !== "now") {
      flow.draw(steps, step);
      waiting.draw(steps, step);
    }
    if (!figures) return;
    tiles.sent.set(rate(figures.sent), current().admin ? `${count(figures.accepted)} accepted in a minute` : undefined);
    tiles.deferred.set(count(figures.deferred));
    const late = figures.oldest_due !== null && figures.oldest_due > 300;
    tiles.due.set(figures.oldest_due === null ? "none" : duration(figures.oldest_due), undefined, late ? "is-warn" : "");
    tiles.errors.set(share(figures.error_rate), `of ${count(figures.ended)} ended in 5 min`, figures.error_rate > 0.05 ? "is-bad" : "");
    if (figures.queue === null) {
      tiles.waiting.set("–", "the store cannot be read", "is-bad");
      return;
    }
    tiles.waiting.set(count(Object.values(figures.queue).reduce((sum, each) => sum + each, 0)));
    queue.set(figures.queue);
  }

  const unlisten = live.listen(draw);
  draw("steps");
  let shown = "";
  const end = live.follow(async () => {
    const found = await worries();
    const text = JSON.stringify(found);
    if (text === shown) return;
    shown = text;
    show(notices, found.length
      ? h("ul", { class: "worries" }, found.map(([kind, words, to]) => h("li", { class: `is-${kind}` }, h("a", { href: to }, words))))
      : h("p", { class: "empty" }, "Nothing. Mail flows."));
  }, (problem) => {
    if (problem) {
      shown = "";
      show(notices, h("p", { class: "problem" }, problem.message));
    }
  }, 10);
  return () => {
    unlisten();
    end();
  };
}
