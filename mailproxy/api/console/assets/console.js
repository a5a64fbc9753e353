// The console: who is logged in, the frame, and which page is shown.

import { current, login, logout, resume, whenEnded } from "./api.js";
import { accountsPage } from "./accounts.js";
import { button, h, show } from "./dom.js";
import * as live from "./live.js";
import { logPage } from "./log.js";
import { messagesPage } from "./messages.js";
import { nodesPage } from "./nodes.js";
import { nowPage } from "./now.js";
import { tenantsPage } from "./tenants.js";

/** Pages by the first part of their address: [title, page, for the admin only]. */
const PAGES = {
  now: ["Now", nowPage],
  messages: ["Messages", messagesPage],
  accounts: ["Accounts", accountsPage],
  tenants: ["Tenants", tenantsPage],
  nodes: ["Nodes", nodesPage, true],
  log: ["Log", logPage, true],
};

const main = h("main", { id: "main", tabindex: "-1" });
const announcer = h("p", { class: "hidden", role: "status", "aria-live": "polite" });
let leave = () => {};

function where() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { name: parts[0] || "now", parts: parts.slice(1), query: new URLSearchParams(search || "") };
}

function allowed() {
  return Object.entries(PAGES).filter(([, [, , adminOnly]]) => current().admin || !adminOnly);
}

/** Show the page of the address. */
function route({ focus = true } = {}) {
  if (!current()) return;
  leave();
  leave = () => {};
  const place = where();
  const found = allowed().find(([name]) => name === place.name);
  const [name, [title, page]] = found || allowed()[0];
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · mailproxy`;
  leave = page(main, place, announce) || (() => {});
  if (focus) {
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
}

/** Say something to those who listen rather than look. */
function announce(text) {
  announcer.textContent = text;
}

function frame() {
  const links = allowed().map(([name, [title]]) => h("li", null, h("a", { href: `#/${name}`, "data-page": name }, title)));
  const light = h("span", { class: "light", role: "status" });
  const who = current().admin ? "admin" : current().tenant_id;
  const lit = () => {
    const text = !live.now.connected ? "Connecting" : live.now.figures.draining ? "Stopping" : "Live";
    if (light.textContent === text) return;
    light.textContent = text;
    light.classList.toggle("on", text === "Live");
  };
  live.listen(lit);
  lit();
  const skip = h("a", {
    class: "skip", href: "#main", onclick: (event) => {
      event.preventDefault();
      main.focus();
    },
  }, "Skip to content");
  show(document.body, skip,
    h("header", { class: "bar" },
      h("a", { class: "brand", href: "#/now" }, h("img", { src: "assets/icon.svg", alt: "", width: "24", height: "24" }), "mailproxy"),
      h("nav", { "aria-label": "Pages" }, h("ul", null, links)),
      h("div", { class: "me" }, light, h("span", { class: "who", title: `mailproxy ${current().version}` }, who),
        button("Log out", leaveConsole, { class: "quiet-button" }))),
    main, announcer);
}

function enter() {
  frame();
  live.start(ended);
  route({ focus: false });
}

async function leaveConsole() {
  await logout().catch(() => {});
  ended("");
}

/** Nobody is logged in any more. */
function ended(text = "The session has ended. Log in again.") {
  leave();
  leave = () => {};
  live.forget();
  loginPage(text);
}

function loginPage(text = "") {
  document.title = "Log in · mailproxy";
  const token = h("input", {
    id: "token", type: "password", autocomplete: "current-password", spellcheck: "false", "aria-describedby": "token-help problem",
  });
  const problem = h("p", { id: "problem", class: "problem", role: "alert" }, text);
  const enterButton = h("button", { type: "submit" }, "Log in");

  async function submit(event) {
    event.preventDefault();
    enterButton.disabled = true;
    problem.textContent = "";
    try {
      await login(token.value.trim());
      enter();
      main.focus();
    } catch (refused) {
      problem.textContent = refused.message;
      token.select();
    } finally {
      enterButton.disabled = false;
    }
  }

  show(document.body, h("main", { class: "login" },
    h("form", { onsubmit: submit },
      h("h1", null, h("img", { src: "assets/icon.svg", alt: "", width: "32", height: "32" }), "mailproxy"),
      h("input", { type: "text", autocomplete: "username", value: "mailproxy", readonly: true, hidden: true }),
      h("label", { for: "token" }, "API token"), token,
      h("p", { id: "token-help", class: "quiet" }, "The service's token, or a tenant's key that may read. It is not kept in this browser."),
      enterButton, problem)));
  token.focus();
}

window.addEventListener("hashchange", () => route());
document.addEventListener("visibilitychange", () => {
  if (!current()) return;
  if (document.hidden) live.stop();
  else live.start(ended);
});
whenEnded(ended);

try {
  if (await resume()) enter();
  else loginPage();
} catch (problem) {
  loginPage(problem.message);
}
