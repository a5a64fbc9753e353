// Elements, made by hand. Text goes in as text: nothing here reads HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element. `properties`: attributes, and listeners as `onclick`. */
export function h(name, properties, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** An SVG element. */
export function s(name, properties, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

/** Put `children` in place of what is in `element`. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
}

/** A state, told by its word and a mark of its colour. */
export function state(word, text = word.replaceAll("_", " ")) {
  return h("span", { class: `state is-${word}` }, text);
}

/** A table with a heading for each column. `columns`: [name, class]; `rows`: lists of cells. */
export function table(caption, columns, rows, empty = "Nothing to show.") {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  const head = columns.map(([name, kind]) => h("th", { scope: "col", class: kind }, name));
  const line = (cells) =>
    h("tr", null, cells.map((cell, n) => {
      const [name, kind] = columns[n];
      const properties = { class: kind, "data-name": name };
      return n === 0 ? h("th", { scope: "row", ...properties }, cell) : h("td", properties, cell);
    }));
  return h("div", { class: "scroll" },
    h("table", null, h("caption", { class: "quiet-caption" }, caption),
      h("thead", null, h("tr", null, head)), h("tbody", null, rows.map(line))));
}

/** Facts as pairs of a name and what it is; pairs without a value are left out. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

export function button(text, onclick, properties = {}) {
  return h("button", { type: "button", onclick, ...properties }, text);
}

/** A part of a page with its heading. */
export function panel(title, ...children) {
  return h("section", { class: "panel" }, h("h2", null, title), children);
}

/**
 * Cards that stay where they are while what they tell changes, so that nobody loses their place.
 * `make(key)` gives a card: its `element`, and `set(value)`. Returns what shows a list of values.
 */
export function cardsIn(list, make, empty) {
  const cards = new Map(); // by key: the card, and what it shows
  return (values, keyOf) => {
    const kept = new Set(values.map(keyOf));
    for (const [key, { card }] of cards) {
      if (kept.has(key)) continue;
      card.element.remove();
      cards.delete(key);
    }
    if (!values.length) show(list, h("p", { class: "empty" }, empty));
    values.forEach((value, n) => {
      const key = keyOf(value);
      const text = JSON.stringify(value);
      if (!cards.has(key)) cards.set(key, { card: make(key), text: "" });
      const one = cards.get(key);
      if (one.text !== text) one.card.set(value);
      one.text = text;
      if (list.children[n] !== one.card.element) list.insertBefore(one.card.element, list.children[n] || null);
    });
    while (values.length && list.children.length > values.length) list.lastElementChild.remove();
  };
}
