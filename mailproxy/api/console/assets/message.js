// One message: how it stands, what can be done, and everything that happened to it.

import { current, get, mayControl, post, query } from "./api.js";
import { ask } from "./dialog.js";
import { button, facts, h, panel, show, state, table } from "./dom.js";
import { duration, instant, time } from "./format.js";
import { follow } from "./live.js";

const WAITS = ["queued", "deferred", "in_flight"];

/** What can be done: [name, states, path, text, dangerous, more of the body]. */
const ACTS = [
  ["Hold", WAITS, "hold", "Nothing more of it is begun until it is released; its age does not run meanwhile."],
  ["Release", ["held"], "release", "It goes on where it was."],
  ["Retry now", ["deferred"], "retry", "It is tried at once instead of when it falls due."],
  ["Retry", ["failed", "expired"], "retry", "It is sent once more to those who have not accepted it. Those of whom nobody knows are left out."],
  ["Send again", ["uncertain"], "resend", "It is sent once more to those of whom nobody knows whether they accepted it. They may get a second copy."],
  ["Close as sent", ["uncertain"], "close", "Those of whom nobody knew count as having accepted it. That is reported.", false, { end: "sent" }],
  ["Close as failed", ["uncertain"], "close", "Those of whom nobody knew count as failed. That is reported.", false, { end: "failed" }],
  ["Cancel", [...WAITS, "held", "uncertain"], "cancel", "What has not been sent of it ends, is reported as cancelled, and its text is removed.", true],
];

/** The words of an SMTP dialogue, as they were. */
function replies(attempt, said) {
  const lines = attempt.mail ? [["MAIL", attempt.mail]] : [];
  for (const each of said) if (each.rcpt) lines.push([`RCPT ${each.address || ""}`, each.rcpt]);
  for (const reply of attempt.rcpts || []) if (reply) lines.push(["RCPT", reply]);
  if (attempt.data) lines.push(["DATA", attempt.data]);
  if (attempt.final) lines.push(["end of message", attempt.final]);
  if (!lines.length) return null;
  return h("dl", { class: "replies" }, lines.map(([name, text]) => h("div", null, h("dt", null, name), h("dd", { class: "mono" }, text))));
}

const WORDS = {
  accepted: "Accepted", intent: "Attempt begun", outcome: "Attempt ended", deferred: "Put off", uncertain: "Uncertain",
  failed: "Failed", expired: "Expired", cancelled: "Cancelled", sent: "Sent", held: "Held", released: "Released", retried: "To be tried now", resent: "To be sent again",
  closed: "Closed", replaced: "Replaced", generation: "Once more", note: "Note", late: "A late reply",
};

/** What an attempt was like, in one line. */
function attemptLine(attempt) {
  const parts = [`attempt ${attempt.n}`, `account ${attempt.account}`];
  if (attempt.peer) parts.push(attempt.peer);
  if (attempt.tls !== undefined) parts.push(attempt.tls || "in clear");
  if (attempt.seconds !== undefined) parts.push(duration(attempt.seconds));
  if (attempt.phase && attempt.phase !== "final") parts.push(`up to ${attempt.phase}`);
  return h("p", { class: "quiet" }, parts.join(" · "));
}

/** What a final outcome came to, by its recipients. */
function came(said) {
  const states = said.map((each) => each.state);
  if (states.length && states.every((each) => each === "sent")) return "sent";
  return ["failed", "expired", "cancelled"].find((each) => states.includes(each)) || "outcome";
}

function step(event, first) {
  const { data, attempt } = event;
  const said = data.recipients || [];
  const by = data.by ? [`${data.act || ""} by ${data.by}`, data.reason ? `: ${data.reason}` : ""].join("") : null;
  const kind = event.kind === "outcome" && event.final ? came(said) : event.kind;
  return h("li", { class: `step is-${kind}` },
    h("div", { class: "step-head" },
      h("strong", null, WORDS[kind] || event.kind.replaceAll("_", " ")),
      h("time", { title: instant(event.at) }, time(event.at)),
      event.generation > 1 ? h("span", { class: "quiet" }, `generation ${event.generation}`) : null,
      event.final ? h("span", { class: "tag" }, "final") : null,
      event.reported_at ? h("span", { class: "quiet", title: instant(event.reported_at) }, `reported ${time(event.reported_at)}`) : null),
    first && event.cut ? h("p", { class: "quiet" }, "Older steps are left out.") : null,
    event.reason ? h("p", null, event.reason) : null,
    by ? h("p", null, by) : null,
    data.next_at ? h("p", { class: "quiet" }, `next attempt ${time(data.next_at)}`) : null,
    attempt ? attemptLine(attempt) : null,
    attempt && attempt.error ? h("p", { class: "mono" }, attempt.error) : null,
    attempt ? replies(attempt, said) : null,
    said.length ? h("ul", { class: "said" }, said.map((each) => h("li", null, state(each.state), " ", h("span", { class: "address" }, each.address || ""), each.reply ? h("span", { class: "mono" }, ` ${each.code ? `${each.code} ` : ""}${each.reply}`) : null))) : null,
    [...new Set([...(data.notes || []), ...((attempt && attempt.notes) || [])])].map((note) => h("p", { class: "quiet" }, note)));
}

function content(message) {
  const { message: said } = message;
  const text = said.body_plain ?? (said.content_type === "plain" ? said.body : null);
  const html = said.body_html ?? (said.content_type === "html" ? said.body : null);
  const attachments = (said.attachments || []).map((each) => h("li", null, each.filename, h("span", { class: "quiet" }, ` ${each.mime_type || ""} ${each.size === null ? "not fetched yet" : `${each.size} bytes`}`)));
  const shown = (name, words) => words ? h("details", null, h("summary", null, name), h("pre", null, words), said.body_truncated ? h("p", { class: "quiet" }, "cut") : null) : null;
  return [
    facts([["From", said.from], ["To", (said.to || []).join(", ")], ["Cc", (said.cc || []).join(", ")], ["Bcc", (said.bcc || []).join(", ")],
      ["Reply to", said.reply_to], ["Envelope sender", said.return_path], ["Message-ID", h("span", { class: "mono" }, message.message_id)]]),
    attachments.length ? h("ul", null, attachments) : null,
    shown("Text", text), shown("HTML, as text", html),
    said.damaged ? h("p", { class: "problem" }, "What is stored of it is damaged.") : null,
    !text && !html && !said.raw ? h("p", { class: "quiet" }, "The text is not kept any more.") : null,
  ];
}

export function messagePage(main, place, announce) {
  const [tenant, id] = place.parts;
  const path = `/v1/messages/${encodeURIComponent(id)}`;
  const asked = query({ tenant_id: tenant });
  const head = h("div", { class: "head" });
  const actions = h("div", { class: "actions", "aria-label": "What can be done", role: "group" });
  const body = h("div");
  let shown = "";

  async function act([name, , to, text, danger, more]) {
    const done = await ask({
      title: `${name}: ${id}`, text, action: name, danger,
      run: (reason) => post(`${path}/${to}${asked}`, { ...more, ...(reason ? { reason } : {}) }),
    });
    if (!done) return;
    const told = done.changed ? `${name}: done. It is ${done.state.replaceAll("_", " ")} now.` : `Nothing was changed: ${done.reason}`;
    announce(told);
    note.textContent = told;
    end.refresh();
  }

  async function update() {
    const { message } = await get(path + asked);
    const text = JSON.stringify(message);
    if (text === shown) return;
    shown = text;
    document.title = `${id} · mailproxy`;
    show(head, h("p", { class: "crumb" }, h("a", { href: "#/messages" }, "Messages")), h("h1", null, message.message.subject || "(no subject)"),
      h("p", null, state(message.state), " ", h("span", { class: "mono" }, id)));
    const focused = actions.contains(document.activeElement) ? document.activeElement.textContent : null;
    show(actions, mayControl() ? ACTS.filter(([, states]) => states.includes(message.state)).map((each) => button(each[0], () => act(each), { class: each[4] ? "danger" : null })) : null);
    if (focused) ([...actions.children].find((each) => each.textContent === focused) || actions.firstElementChild || main).focus();
    show(body,
      h("div", { class: "columns" },
        panel("How it stands", facts([
          ["Account", message.account_id], ["Tenant", current().admin ? message.tenant_id : null], ["Priority", String(message.priority)],
          ["Batch", message.batch_code], ["Attempts", String(message.attempts)], ["Why it waits", message.deferred_reason], ["Error", message.error],
          ["Accepted", time(message.created_at)], ["Changed", time(message.updated_at)], ["Not before", message.deferred_ts && time(message.deferred_ts)],
          ["Expires", message.expires_at && time(message.expires_at)], ["Sent", message.sent_ts && time(message.sent_ts)],
          ["End reported", message.reported_ts && time(message.reported_ts)],
        ])),
        panel("Content", content(message))),
      panel("Recipients", table("Recipients", [["Address", "wide"], ["State", ""], ["Reply", "wide mono"]],
        message.recipients.map((each) => [each.address, state(each.state), [each.code, each.reply].filter(Boolean).join(" ")]))),
      panel("Timeline", h("ol", { class: "timeline" }, (message.history || []).map((event, n) => step(event, n === 0)))));
  }

  const note = h("p", { class: "note" });
  show(main, head, actions, note, body);
  const end = follow(update, (problem) => {
    if (!problem) return;
    shown = "";
    show(body, h("p", { class: "problem", role: "alert" }, problem.message));
  });
  return end;
}
