// The vote matrix: tasks by attempts, one stage of a job.
//
// Above, a square for each task, drawn on a canvas, so that twenty thousand of them are one picture. Below, a grid with a row for each task
// and a cell for each attempt, of which only the rows in sight exist. The grid is one stop of the keyboard: arrows move a cell, which
// `aria-activedescendant` names. Everything here is told by letter and pattern as well as by colour.

import { element } from "./elements.js";
import * as states from "./states.js";
import * as words from "./words.js";

/** Tasks that are shown at most: more than the scheduler takes. */
const TASKS_MAX = 1_000_000;
const ROW_PX = 34;
const HEAD_PX = 31;
/** Rows drawn beyond those in sight, above and below. */
const BEYOND = 4;
/** Attempts that have a column; what is beyond stands in the last one. */
const COLUMNS_MAX = 9;
/** How high the picture of all tasks may be, and a square's largest side. */
const OVERVIEW_PX = 170;
const SQUARE_PX = 16;

const FILTERS = [
  ["all", "All", () => true],
  ["disputed", "Disputed", (letter) => letter === "d" || letter === "q" || letter === "f" || letter === "l"],
  ["open", "Not agreed", (letter) => letter !== "a" && letter !== "q"],
];

/** The tasks of a stage, one letter and one word each, as the API gives them. */
export class Tasks {
  constructor({ stage, all, settled, revision, states: letters, attempts, trackers }) {
    this.stage = stage === "reduce" ? "reduce" : "map";
    this.settled = settled === true;
    this.revision = revision;
    const text = (value) => (typeof value === "string" ? value : "");
    this.states = Array.from(text(letters)).slice(0, TASKS_MAX);
    this.attempts = split(attempts, this.states.length);
    this.trackers = split(trackers, this.states.length);
    this.all = Number.isSafeInteger(all) ? all : this.states.length;
  }

  /** Takes changes: `[index, state, attempts, trackers]` each. */
  apply({ settled, revision, tasks }) {
    this.settled = settled === true;
    this.revision = revision;
    if (!Array.isArray(tasks)) return;
    for (const [index, state, attempts, trackers] of tasks) {
      if (!Number.isSafeInteger(index) || index < 0 || index >= this.states.length) continue;
      this.states[index] = String(state);
      this.attempts[index] = String(attempts);
      this.trackers[index] = String(trackers);
    }
  }

  name(index) {
    return `${this.stage}-${index}`;
  }

  /** The attempts of a task: tracker and state of each. */
  row(index) {
    const trackers = this.trackers[index] === "" ? [] : this.trackers[index].split(",");
    const isTentative = this.stage === "reduce" && !this.settled;
    return Array.from(this.attempts[index], (letter, at) => ({ tracker: trackers[at] ?? "?", state: states.attempt(letter, isTentative) }));
  }

  /** How many tasks have each letter. */
  tally() {
    const tally = new Map();
    for (const letter of this.states) tally.set(letter, (tally.get(letter) ?? 0) + 1);
    return tally;
  }
}

function split(text, length) {
  const parts = typeof text === "string" ? text.split(" ", length) : [];
  while (parts.length < length) parts.push("");
  return parts;
}

/** Draws the tasks of one stage of a job, and keeps them drawn. */
export class Matrix {
  constructor(job, stage) {
    this.job = job;
    this.id = `matrix-${stage}`;
    this.stage = stage;
    this.tasks = null;
    this.shown = [];
    this.filter = "all";
    this.active = { at: 0, column: 0 };
    this.columns = 2;
    this.pool = [];
    this.frame = null;
    this.isStale = true;
    this.build();
    this.gone = new AbortController();
    document.addEventListener("theme", () => this.draw(), { signal: this.gone.signal });
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.root);
  }

  /** Stops to draw. */
  leave() {
    this.gone.abort();
    this.sizes.disconnect();
  }

  build() {
    this.canvas = element("canvas", { class: "overview", role: "img", onclick: (event) => this.pick(event) });
    this.canvas.onmousemove = (event) => this.point(event);
    this.buttons = FILTERS.map(([name, label]) =>
      element("button", { type: "button", "aria-pressed": String(name === this.filter), onclick: () => this.choose(name) }, label));
    this.count = element("span", { class: "soft small" });
    const jump = element("input", { type: "text", inputmode: "numeric", size: 7, placeholder: `${this.stage}-0`, "aria-label": `Go to a ${this.stage} task` });
    jump.onchange = () => {
      const index = Number(jump.value.replace(`${this.stage}-`, ""));
      if (Number.isSafeInteger(index)) this.go(index, true);
    };
    this.head = element("div", { class: "grid-head", role: "row", "aria-rowindex": 1 });
    this.body = element("div", { class: "grid-body", role: "rowgroup" });
    this.grid = element("div", { class: "grid", role: "grid", tabindex: 0, id: this.id, "aria-label": `Attempts of ${this.stage} tasks`,
      "aria-describedby": `${this.id}-keys`, onkeydown: (event) => this.key(event), onclick: (event) => this.clicked(event) }, this.head, this.body);
    this.grid.onscroll = () => this.draw(false);
    this.grid.onfocus = () => this.draw(false);
    const keys = element("p", { class: "visually-hidden", id: `${this.id}-keys` },
      "Arrow keys move, Page Up and Page Down by a page, n and p to the next and the previous disputed task, Enter opens a task.");
    this.root = element("div", { class: "matrix" },
      element("div", { class: "matrix-tools" }, this.buttons, jump, element("span", { class: "push" }, this.count)),
      this.canvas, this.grid, keys);
  }

  /** Shows these tasks, or draws again what has changed of them. */
  set(tasks) {
    this.tasks = tasks;
    this.sift();
    this.draw();
  }

  choose(filter) {
    this.filter = filter;
    this.buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(FILTERS[at][0] === filter)));
    this.active = { at: 0, column: 0 };
    this.grid.scrollTop = 0;
    this.sift();
    this.draw();
  }

  /** Which tasks have rows. */
  sift() {
    const keeps = FILTERS.find(([name]) => name === this.filter)[2];
    const { states: letters, attempts } = this.tasks;
    this.shown = [];
    let columns = 2;
    letters.forEach((letter, index) => {
      if (keeps(letter)) this.shown.push(index);
      columns = Math.max(columns, attempts[index].length);
    });
    this.columns = Math.min(columns, COLUMNS_MAX);
    this.active.at = Math.max(0, Math.min(this.active.at, this.shown.length - 1));
    this.active.column = Math.min(this.active.column, this.columns);
  }

  /** Draws at the next frame, once, however often it is asked: all of it, or only the rows, as when they are scrolled. */
  draw(isAll = true) {
    this.isStale ||= isAll;
    if (this.tasks === null || this.frame !== null) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      if (this.isStale) this.paint();
      this.isStale = false;
      this.lay();
    });
  }

  /** The rows in sight. */
  lay() {
    const rows = this.shown.length;
    this.grid.style.setProperty("--columns-of-attempts", this.columns);
    this.grid.style.height = `${HEAD_PX + Math.max(1, Math.min(rows, 14)) * ROW_PX + 3}px`;
    this.body.style.height = `${Math.max(1, rows) * ROW_PX}px`;
    this.grid.setAttribute("aria-rowcount", rows + 1);
    this.grid.setAttribute("aria-colcount", this.columns + 1);
    this.count.textContent = rows === this.tasks.states.length ? words.counted(rows, "task") : `${words.count(rows)} of ${words.counted(this.tasks.states.length, "task")}`;
    this.layHead();
    const first = Math.max(0, Math.floor(this.grid.scrollTop / ROW_PX) - BEYOND);
    const last = Math.min(rows, Math.ceil((this.grid.scrollTop + this.grid.clientHeight) / ROW_PX) + BEYOND);
    const needed = Math.max(last - first, 0);
    // As many elements as rows in sight; row number r always is the element r modulo their number, so scrolling changes few of them.
    if (this.pool.length < needed) {
      while (this.pool.length < needed + 2 * BEYOND) this.pool.push(this.body.appendChild(element("div", { class: "grid-row", role: "row", hidden: true })));
      for (const row of this.pool) row.drawn = "";
    }
    const used = new Set();
    for (let at = first; at < last; at += 1) {
      const row = this.pool[at % this.pool.length];
      used.add(row);
      this.layRow(row, at);
    }
    for (const row of this.pool) if (!used.has(row)) row.hidden = true;
    const active = document.getElementById(this.cellId(this.active.at, this.active.column));
    if (active !== null && this.grid.contains(active)) this.grid.setAttribute("aria-activedescendant", active.id);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  layHead() {
    const drawn = String(this.columns);
    if (this.head.drawn === drawn) return;
    this.head.drawn = drawn;
    const column = (at) => element("span", { role: "columnheader" }, `attempt ${at}`);
    this.head.replaceChildren(element("span", { role: "columnheader" }, "task"), ...Array.from({ length: this.columns }, (_, at) => column(at)));
  }

  layRow(row, at) {
    const index = this.shown[at];
    const { tasks } = this;
    const isActive = at === this.active.at;
    const drawn = `${at} ${index} ${tasks.states[index]} ${tasks.attempts[index]} ${tasks.trackers[index]} ${tasks.settled} ${this.columns} ${isActive ? this.active.column : ""}`;
    row.hidden = false;
    if (row.drawn === drawn) return;
    row.drawn = drawn;
    row.dataset.task = tasks.name(index);
    row.setAttribute("aria-rowindex", at + 2);
    row.style.transform = `translateY(${at * ROW_PX}px)`;
    const state = states.task(tasks.states[index]);
    const cells = tasks.row(index);
    const active = (column) => (isActive && this.active.column === column ? " active" : "");
    const name = element("span", { role: "rowheader", class: `task-name${active(0)}`, id: this.cellId(at, 0), "aria-label": `${tasks.name(index)}, ${state.word}` },
      element("span", { class: "square", "data-state": state.look, "data-shade": state.shade, title: state.word }),
      element("a", { href: this.address(index), tabindex: -1 }, tasks.name(index)));
    const cell = (column) => {
      const found = cells[column - 1];
      const id = this.cellId(at, column);
      if (found === undefined) return element("span", { role: "gridcell", id, class: active(column).trim(), "aria-label": `no attempt ${column - 1}` });
      const more = column === this.columns && cells.length > this.columns ? ` +${cells.length - this.columns}` : "";
      const says = `attempt ${column - 1} by tracker-${found.tracker}: ${found.state.word}${found.state.isRedone ? ", redone or extra work" : ""}`;
      return element("span", { role: "gridcell", id, class: `cell${active(column)}`, "data-state": found.state.look, "data-redone": String(found.state.isRedone),
        "aria-label": says, title: `${says}; ${found.state.says}` },
        element("span", { class: "letter" }, found.state.letter),
        element("span", { class: "who" }, element("span", { class: "prefix" }, "tracker-"), `${found.tracker}${more}`),
        element("span", { class: "word" }, found.state.word));
    };
    row.replaceChildren(name, ...Array.from({ length: this.columns }, (_, column) => cell(column + 1)));
  }

  cellId(at, column) {
    return `${this.id}-${at}-${column}`;
  }

  address(index) {
    return `#/jobs/${this.job}/tasks/${this.tasks.name(index)}`;
  }

  /** Makes a task's row the active one, in sight. */
  go(index, isFocused = false) {
    let at = this.shown.indexOf(index);
    if (at < 0 && index >= 0 && index < this.tasks.states.length) {
      this.choose("all");
      at = index;
    }
    if (at >= 0) this.move(at, this.active.column);
    if (isFocused) this.grid.focus({ preventScroll: true });
  }

  move(at, column) {
    this.active = { at: Math.max(0, Math.min(at, this.shown.length - 1)), column: Math.max(0, Math.min(column, this.columns)) };
    const top = this.active.at * ROW_PX;
    const height = this.grid.clientHeight - HEAD_PX;
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top + ROW_PX > this.grid.scrollTop + height) this.grid.scrollTop = top + ROW_PX - height;
    this.draw(false);
  }

  key(event) {
    if (this.tasks === null || event.altKey || event.metaKey) return;
    const { at, column } = this.active;
    const page = Math.max(1, Math.floor((this.grid.clientHeight - HEAD_PX) / ROW_PX) - 1);
    const moves = {
      ArrowDown: () => this.move(at + 1, column),
      ArrowUp: () => this.move(at - 1, column),
      ArrowRight: () => this.move(at, column + 1),
      ArrowLeft: () => this.move(at, column - 1),
      PageDown: () => this.move(at + page, column),
      PageUp: () => this.move(at - page, column),
      Home: () => (event.ctrlKey ? this.move(0, 0) : this.move(at, 0)),
      End: () => (event.ctrlKey ? this.move(this.shown.length - 1, this.columns) : this.move(at, this.columns)),
      n: () => this.seek(1),
      p: () => this.seek(-1),
      Enter: () => {
        if (this.shown.length > 0) location.hash = this.address(this.shown[at]);
      },
    };
    if (!Object.hasOwn(moves, event.key) || (event.ctrlKey && event.key !== "Home" && event.key !== "End")) return;
    event.preventDefault();
    moves[event.key]();
  }

  /** The next disputed task in a direction. */
  seek(step) {
    const isDisputed = FILTERS[1][2];
    for (let at = this.active.at + step; at >= 0 && at < this.shown.length; at += step) {
      if (isDisputed(this.tasks.states[this.shown[at]])) {
        this.move(at, this.active.column);
        return;
      }
    }
  }

  clicked(event) {
    const row = event.target.closest?.(".grid-row");
    if (!row || event.target.closest("a")) return;
    location.hash = `#/jobs/${this.job}/tasks/${row.dataset.task}`;
  }

  /** The picture of all tasks. */
  paint() {
    const { canvas, tasks } = this;
    const width = this.root.clientWidth;
    const all = tasks.states.length;
    canvas.hidden = all <= 1 || width === 0;
    if (canvas.hidden) return;
    let side = SQUARE_PX;
    while (side > 2 && Math.ceil(all / Math.floor(width / side)) * side > OVERVIEW_PX) side -= 1;
    const across = Math.max(1, Math.floor(width / side));
    const height = Math.ceil(all / across) * side;
    this.layout = { side, across };
    const scale = window.devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const colours = palette(canvas);
    const gap = side >= 6 ? 1 : side >= 4 ? 0.5 : 0;
    tasks.states.forEach((letter, index) => {
      const { look, shade } = states.task(letter);
      square(context, (index % across) * side, Math.floor(index / across) * side, side - gap, colours[look], shade, colours);
    });
    const told = Array.from(tasks.tally(), ([letter, number]) => `${words.count(number)} ${states.task(letter).word}`);
    canvas.setAttribute("aria-label", `${words.counted(all, `${this.stage} task`)}: ${words.list(told)}`);
  }

  /** The task under the pointer. */
  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const { side, across } = this.layout;
    const column = Math.floor((event.clientX - box.left) / side);
    const index = Math.floor((event.clientY - box.top) / side) * across + column;
    return column < across && index < this.tasks.states.length ? index : null;
  }

  point(event) {
    const index = this.under(event);
    this.canvas.title = index === null ? "" : `${this.tasks.name(index)}: ${states.task(this.tasks.states[index]).word}`;
  }

  pick(event) {
    const index = this.under(event);
    if (index !== null) this.go(index, true);
  }
}

/** The colours of the looks, as the theme has them now: a canvas knows no custom properties. */
function palette(canvas) {
  const probe = document.createElement("span");
  probe.hidden = true;
  canvas.after(probe);
  const colours = {};
  for (const look of ["pending", "agreed", "outvoted", "tentative", "redone"]) {
    probe.style.color = `var(--${look}-fill)`;
    colours[look] = getComputedStyle(probe).color;
  }
  probe.style.color = "var(--surface)";
  colours.surface = getComputedStyle(probe).color;
  probe.remove();
  return colours;
}

/** One task's square. The shade tells states apart without colour, as far as there is room. */
function square(context, x, y, side, colour, shade, colours) {
  context.fillStyle = shade === "corner" ? colours.agreed : colour;
  if (shade === "none") context.globalAlpha = 0.55;
  context.fillRect(x, y, side, side);
  context.globalAlpha = 1;
  if (shade === "corner" || shade === "stripes") {
    context.fillStyle = shade === "corner" ? colour : colours.surface;
    context.beginPath();
    context.moveTo(x + side, y);
    context.lineTo(x + side, y + side);
    context.lineTo(x, y + side);
    context.fill();
  }
  if (shade === "half") {
    context.fillStyle = colours.tentative;
    context.fillRect(x, y + side / 2, side, side / 2);
  }
}
