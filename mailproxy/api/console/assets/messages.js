// The list of messages: searched, narrowed, page by page.

import { current, get, query } from "./api.js";
import { button, h, show, state, table } from "./dom.js";
import { ago, instant, plural } from "./format.js";
import { follow } from "./live.js";
import { messagePage } from "./message.js";

const PAGE = 50;

export const STATES = ["queued", "in_flight", "deferred", "held", "uncertain", "sent", "failed", "expired", "cancelled"];

/** The address of a message's own page. */
export function address(message) {
  return `#/messages/${encodeURIComponent(message.tenant_id)}/${encodeURIComponent(message.id)}`;
}

/** When, in short; the whole instant as a title. */
export function when(value) {
  return value ? h("time", { title: instant(value), datetime: value }, ago(value)) : "";
}

/** Let the times in `element` go on. */
function tick(element) {
  for (const each of element.querySelectorAll("time")) each.textContent = ago(each.dateTime);
}

function recipients(message) {
  const all = message.recipients;
  if (!all.length) return "";
  return [all[0].address, all.length > 1 ? h("span", { class: "quiet" }, ` and ${all.length - 1} more`) : null];
}

function row(message) {
  const place = current().admin && message.tenant_id !== "default" ? [message.tenant_id, " / "] : [];
  return [
    h("a", { href: address(message), class: "mono" }, message.id),
    state(message.state),
    message.message.subject || h("span", { class: "quiet" }, "(no subject)"),
    recipients(message),
    [...place, message.account_id],
    when(message.updated_at),
    message.error || message.deferred_reason || "",
  ];
}

const COLUMNS = [
  ["Id", "wide"], ["State", ""], ["Subject", "wide"], ["Recipient", "wide"], ["Account", ""], ["Changed", "short"], ["Why", "wide"],
];

/** A field of the form above the list. */
function field(name, label, control) {
  control.id = `by-${name}`;
  control.name = name;
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control);
}

function form(asked, apply) {
  const given = (name) => asked.get(name) || "";
  const option = (value, text, chosen) => h("option", { value, selected: value === chosen }, text);
  const text = (name, kind = "text") => h("input", { type: kind, value: given(name), autocomplete: "off", spellcheck: "false" });
  const place = h("select", null, [["search", "anywhere"], ["recipient", "in recipients"], ["subject", "in the subject"]]
    .map(([value, words]) => option(value, words, given("in") || "search")));
  const states = h("select", null, option("", "any", given("state")), STATES.map((each) => option(each, each.replaceAll("_", " "), given("state"))));
  const fields = [
    field("text", "Search for", text("text", "search")), field("in", "Where", place), field("state", "State", states),
    field("account", "Account", text("account")), field("batch", "Batch", text("batch")),
  ];
  if (current().admin) fields.push(field("tenant", "Tenant", text("tenant")));

  function submit(event) {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(event.target));
    if (!values.text || values.in === "search") delete values.in;
    apply(query(Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value.trim()]))));
  }

  const element = h("form", { class: "filters", role: "search", onsubmit: submit }, fields,
    h("div", { class: "field actions" }, h("button", { type: "submit" }, "Search"), h("a", { href: "#/messages" }, "Clear")));
  states.addEventListener("change", () => element.requestSubmit());
  return element;
}

export function messagesPage(main, place, announce) {
  if (place.parts.length === 2) return messagePage(main, place, announce);
  const asked = place.query;
  const list = h("div");
  const more = h("div", { class: "pager" });
  let shown = "";
  const cursors = [null]; // of the pages that were turned so far; the last is the one that is shown

  const path = () => `/messages${query({
    [asked.get("in") || "search"]: asked.get("text"), state: asked.get("state"), account_id: asked.get("account"),
    batch_code: asked.get("batch"), tenant_id: asked.get("tenant"), brief: "true", limit: PAGE, cursor: cursors.at(-1),
  })}`;

  async function update() {
    const found = await get(path());
    const text = JSON.stringify(found);
    if (text === shown) {
      tick(list);
      return;
    }
    shown = text;
    const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const looked = found.next && found.messages.length < PAGE;
    show(list, table("Messages", COLUMNS, found.messages.map(row), looked ? "Nothing among those looked at so far." : "No message is like that."));
    if (focused) [...list.querySelectorAll("a")].find((each) => each.getAttribute("href") === focused)?.focus();
    list.removeAttribute("aria-busy");
    show(more,
      cursors.length > 1 ? button("Newer page", () => turn(cursors.slice(0, -1))) : null,
      found.next ? button(looked ? "Look further" : "Next page", () => turn([...cursors, found.next])) : null,
      h("span", { class: "quiet" }, `${plural(found.messages.length, "message")} on page ${cursors.length}`));
  }

  function turn(to) {
    cursors.splice(0, cursors.length, ...to);
    shown = "";
    list.setAttribute("aria-busy", "true");
    window.scrollTo(0, 0);
    announce(`Page ${cursors.length}`);
    end.refresh();
  }

  const search = form(asked, (text) => {
    const to = `#/messages${text}`;
    if (to === location.hash) end.refresh();
    else location.hash = to;
  });
  show(main, h("h1", null, "Messages"), h("div", { class: "panel" }, search), h("section", { class: "panel", "aria-label": "Found" }, list, more));
  const end = follow(update, (problem) => {
    if (!problem) return;
    shown = "";
    show(list, h("p", { class: "problem", role: "alert" }, problem.message));
  });
  return end;
}
