// Elements, and how a page that is drawn anew becomes the one that is there.
//
// Everything that came over the network is inserted as text, never as markup: names of jobs and messages come from liars.
// Nothing in this folder parses markup, and the server's content security policy forbids inline scripts and styles.

/** What an address may begin with: a page of ours, or another replica's. */
const ADDRESSES = /^(#|https?:\/\/)/;

/**
 * Makes an element.
 *
 * `attributes` become attributes, except that functions become handlers (`onclick`), `style` is an object of properties, `true` is an
 * attribute without a value, and `false`, `null` and `undefined` are left out. Children are elements, texts or lists of them; nothing
 * is drawn for `null`, `undefined` and `false`.
 */
export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") made[key] = value;
    else if (key === "style") for (const [property, set] of Object.entries(value)) made.style.setProperty(property, set);
    else if (key === "href" && !ADDRESSES.test(value)) continue;
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  append(made, children);
  return made;
}

/** The longest text that is drawn at one place: what comes over the network may be of any length. */
const TEXT_MAX = 20_000;
const cut = (text) => (text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)} …` : text);

function append(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(parent, child);
    else if (child instanceof Node) parent.append(child);
    else parent.append(document.createTextNode(cut(String(child))));
  }
}

/**
 * A place for something that draws itself, such as the vote matrix: it is put there when the place first appears, and left alone while
 * the place stays.
 */
export function place(key, node) {
  const made = element("draws-itself", { "data-key": key });
  made.node = node;
  return made;
}

customElements.define(
  "draws-itself",
  class extends HTMLElement {
    connectedCallback() {
      if (this.node) this.replaceChildren(this.node);
    }
  },
);

/** The handlers that {@link become} carries over. */
const HANDLERS = ["onclick", "onkeydown", "oninput", "onchange"];

/**
 * Makes the children of an element those of a freshly drawn one, and keeps the nodes that fit, so that focus, selection and places of
 * scrolling stay.
 */
export function become(old, fresh) {
  const wanted = Array.from(fresh.childNodes);
  let at = old.firstChild;
  for (const node of wanted) {
    const same = successor(at, node);
    while (same !== null && at !== same) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
    if (same !== null) {
      const kept = at;
      at = at.nextSibling;
      refresh(kept, node);
    } else {
      old.insertBefore(node, at);
    }
  }
  while (at !== null) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

/** The old node that a fresh one is the new state of: the next one or, of those with keys, a later one. */
function successor(at, fresh) {
  if (at === null || fits(at, fresh)) return at;
  if (fresh.dataset?.key === undefined) return null;
  for (let later = at.nextSibling; later !== null; later = later.nextSibling) {
    if (fits(later, fresh)) return later;
  }
  return null;
}

function fits(old, fresh) {
  if (old.nodeType !== fresh.nodeType) return false;
  if (old.nodeType === Node.TEXT_NODE) return true;
  return old.nodeName === fresh.nodeName && old.id === fresh.id && old.dataset.key === fresh.dataset.key;
}

function refresh(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.localName === "draws-itself") return;
  for (const { name } of Array.from(old.attributes)) if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (name === "style") old.style.cssText = fresh.style.cssText;
    else if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const handler of HANDLERS) old[handler] = fresh[handler];
  become(old, fresh);
}
