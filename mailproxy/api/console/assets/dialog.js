// A question with an optional reason, before something is changed.

import { button, h } from "./dom.js";

let number = 0;

/**
 * Ask whether to do it. `run(reason)` does it; while it fails, the dialog stays and says why.
 * Fires with what `run` gave, or null if nothing was done.
 */
export function ask({ title, text, action, danger = false, reason = true, run }) {
  const id = `reason-${++number}`;
  const back = document.activeElement;
  const input = h("input", { id, type: "text", maxlength: "200", autocomplete: "off" });
  const problem = h("p", { class: "problem", role: "alert" });
  const go = h("button", { type: "submit", class: danger ? "danger" : "main" }, action);
  let answer = null;

  async function submit(event) {
    event.preventDefault();
    go.disabled = true;
    problem.textContent = "";
    try {
      answer = await run(input.value.trim());
      dialog.close();
    } catch (refused) {
      problem.textContent = refused.message;
    } finally {
      go.disabled = false;
    }
  }

  const dialog = h("dialog", { "aria-labelledby": `${id}-title` },
    h("form", { onsubmit: submit },
      h("h2", { id: `${id}-title` }, title), h("p", null, text),
      reason ? [h("label", { for: id }, "Reason, for the timeline (optional)"), input] : null,
      problem, h("div", { class: "actions" }, go, button("Back", () => dialog.close()))));
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (back && back.isConnected) back.focus();
      resolve(answer);
    });
    dialog.showModal();
  });
}
