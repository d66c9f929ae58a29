// Small pieces that several pages draw alike.

import { element } from "./elements.js";
import { attemptOf, blame, JOB_LOOKS } from "./states.js";
import * as words from "./words.js";

/** A word on the ground of its look. */
export function badge(word, look, title) {
  return element("span", { class: "badge", "data-state": look, title }, word);
}

export const jobBadge = (state) => badge(state, JOB_LOOKS[state] ?? "pending");
export const blameBadge = (name) => badge(blame(name).word, blame(name).look);

/** What a tracker is given to do, unless it is everything. */
export function dutyBadge(duty) {
  if (duty?.word === "quarantined") return badge("quarantine", "outvoted", String(duty.why));
  if (duty?.word === "probation") return badge(`probation ${words.count(duty.passed)}/${words.count(duty.needed)}`, "redone", "it is given tasks whose answers are known");
  return null;
}

/** How an attempt that tests its tracker came out. */
export function repeatBadge({ purpose, differs, state }) {
  if (differs === true) return badge(purpose === "repeats" ? "differs from itself" : "wrong answer", "outvoted");
  // A liar may well tell the same lie again: that says that the program is not to blame, and no more.
  if (differs === false) return purpose === "repeats" ? badge("the same again", "pending") : badge("right answer", "agreed");
  const { word, look } = attemptOf(state, false);
  return badge(word, look);
}

export const jobLink = (id) => element("a", { href: `#/jobs/${Number(id)}` }, words.job(id));
export const trackerLink = (id) => element("a", { href: `#/trackers/${Number(id)}` }, words.tracker(id));
export const taskLink = (job, task) => element("a", { href: `#/jobs/${Number(job)}/tasks/${encodeURIComponent(task)}` }, task);

/** A panel with a heading, and something beside the heading. */
export function panel(title, beside, ...children) {
  const id = `h-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  const head = element("div", { class: "panel-head" }, element("h2", { id }, title), beside);
  return element("section", { class: "panel", "aria-labelledby": id, "data-key": id }, head, ...children);
}

/** Names and values: `[name, value, small text below]`. */
export function facts(list) {
  const fact = ([name, value, below]) =>
    element("div", null, element("dt", null, name), element("dd", null, value, below ? element("small", null, below) : null));
  return element("dl", { class: "facts" }, list.filter(Boolean).map(fact));
}

/** Rows that are drawn at most. Trackers and listed jobs of a real cluster are fewer, or say less the further down they are. */
const ROWS_MAX = 1000;

/**
 * A table; on a narrow screen each row becomes a card. `columns` are `[name, kind]` with kind `number`, `title` or nothing; a row is
 * `{key, cells}`.
 */
export function table(columns, rows, nothing) {
  if (rows.length === 0) return element("p", { class: "empty" }, nothing);
  const head = columns.map(([name, kind]) => element("th", { scope: "col", class: kind }, name));
  const row = ({ key, cells }) =>
    element("tr", { "data-key": key }, cells.map((cell, at) => element("td", { class: columns[at][1], "data-name": columns[at][0] }, cell)));
  return element("div", { class: "scroll" },
    element("table", { class: "cards" }, element("thead", null, element("tr", null, head)), element("tbody", null, rows.slice(0, ROWS_MAX).map(row))),
    rows.length > ROWS_MAX && element("p", { class: "note" }, `and ${words.count(rows.length - ROWS_MAX)} more`));
}

/** Title of a page, where it is, and whose word its content is. */
export function head(title, crumbs, answer, ...beside) {
  return element("div", { class: "head", "data-key": "head" },
    crumbs.length > 0 && element("nav", { class: "crumbs", "aria-label": "Where this is" },
      crumbs.map(([name, href]) => [element("a", { href }, name), " / "])),
    element("h1", null, title, ...beside.flatMap((piece) => [" ", piece])),
    answer && saidBy(answer));
}

/** How many replicas say what is shown. */
export function saidBy({ alike, of, from, certain, isRecord }) {
  if (isRecord) return element("span", { class: "small soft said-by" }, "as event logs tell it");
  if (certain) return element("span", { class: "small soft said-by", "data-certain": "true" }, words.sayers(alike, of));
  const title = "Replicas at different positions of the history differ for a moment; what is shown is compared again and again.";
  return element("span", { class: "small soft said-by", "data-certain": "false", title }, `${words.replica(from)}'s word alone, not yet compared`);
}

/** A bar of parts: `[share from 0 to 1, look]`. */
export function bar(parts, label) {
  const span = ([share, look]) => element("span", { "data-state": look, style: { width: `${Math.max(0, Math.min(1, share || 0)) * 100}%` } });
  return element("div", { class: "bar", role: "img", "aria-label": label }, parts.map(span));
}

/** Used of all, as digits and a bar. */
export function slots(of) {
  if (!of) return "–";
  return element("span", { class: "nowrap" }, `${words.count(of.used)} of ${words.count(of.all)}`);
}

/** A piece of evidence with the statements that it is made of. */
export function accusation(evidence, about) {
  const where = evidence.task ? [" on ", jobLink(evidence.job), "/", taskLink(evidence.job, evidence.task), evidence.attempt === null || evidence.attempt === undefined ? "" : ` attempt ${evidence.attempt}`] : [];
  const statement = ({ signer, role, text, signed, bytes, signature }) => element("li", null,
    element("strong", null, String(signer)), role ? ` (${role})` : "", ": ", element("span", { class: "mono small" }, String(text)),
    element("details", null, element("summary", null, `signed bytes and signature`),
      element("p", { class: "mono small" }, String(signed), Number(bytes) > String(signed).length / 2 ? ` … of ${words.bytes(bytes)}` : ""),
      element("p", { class: "mono small" }, String(signature))));
  return element("article", { class: "accusation" },
    element("p", null, blameBadge(evidence.blame), " ", element("strong", null, about), ...where, ": ", String(evidence.text)),
    element("p", { class: "small soft" }, evidence.valid === false ? "The replica that tells it could not verify it." : evidence.blame === "convicted"
      ? "Proof: the accused's own signatures contradict each other, or the bytes that it served."
      : "Suspicion, not proof: an honest tracker could have come there by a broken disk or a program that is not deterministic."),
    Array.isArray(evidence.statements) && evidence.statements.length > 0 &&
      element("details", null, element("summary", null, words.counted(evidence.statements.length, "signed statement")),
        element("ul", { class: "statements" }, evidence.statements.map(statement))));
}
