// The banner: is anything lying right now, and who?
//
// It says what f + 1 replicas say alike, who says otherwise and who does not answer; and that it cannot tell, with the reason, when fewer
// than f + 1 agree, or when what is known is not of right now.

import { become, element } from "./elements.js";
import { blameBadge, badge, trackerLink } from "./parts.js";
import { evidenceKind } from "./states.js";
import { FRESH_MS } from "./watch.js";
import * as words from "./words.js";

const MARKS = { clear: "✓", suspicion: "?", lie: "!", unknown: "–" };

/** What the banner says: `{tone, head, lines, says, notes}`. */
export function said({ watch, replicas, connection, history }) {
  if (history) return record();
  const { verdict, known } = watch;
  const now = performance.now();
  const notes = [];
  if (connection.lost !== null) notes.push(`The connection to ${words.replica(connection.lost)} is lost; ${connection.connected ? `${words.replica(replicas.source.id)} is followed instead` : `asking ${words.replica(replicas.source.id)}`}.`);
  if (verdict === null) return { tone: "unknown", head: "Asking the replicas …", lines: [], says: "", notes };
  const isOld = now - watch.at > FRESH_MS;
  if (verdict.agreed === null || isOld) return unknown(verdict, known, now - watch.knownAt, isOld, replicas, notes);
  const silent = verdict.silent.map(words.replica);
  if (silent.length > 0) notes.push(`${words.list(silent)} ${silent.length === 1 ? "does" : "do"} not answer: that proves nothing.`);
  const behind = verdict.behind.map(words.replica);
  if (behind.length > 0) notes.push(`${words.list(behind)} ${behind.length === 1 ? "is" : "are"} at another position and could not be compared.`);
  return {
    tone: verdict.tone,
    head: headline(verdict),
    lines: lines(verdict),
    says: `${words.sayers(verdict.alike.length, verdict.of)} · position ${words.count(verdict.agreed.position.ordered)} · ${age(now - watch.at)}`,
    notes,
  };
}

function record() {
  return { tone: "unknown", head: "A record of the past: nothing is compared", lines: [], says: "", notes: ["This page replays event logs that a replica kept. What it shows is that replica's word alone."] };
}

function age(ms) {
  return ms < 1500 ? "now" : `${words.duration(Math.round(ms / 1000) * 1000)} ago`;
}

function unknown(verdict, known, knownAge, isOld, replicas, notes) {
  const answering = verdict.of - verdict.silent.length;
  const reasons = isOld ? "no answers came for a while"
    : verdict.contradiction ? `two groups of ${replicas.f + 1} replicas contradict each other: more of them lie than may`
    : answering < replicas.f + 1 ? `${words.count(answering)} of ${words.counted(verdict.of, "replica")} answer, and ${words.count(replicas.f + 1)} must say the same`
    : `no ${words.count(replicas.f + 1)} of ${words.counted(verdict.of, "replica")} say the same at one position`;
  const silent = verdict.silent.map(words.replica);
  if (silent.length > 0 && !isOld) notes.push(`${words.list(silent)} ${silent.length === 1 ? "does" : "do"} not answer.`);
  if (known !== null) notes.push(`Stale, ${age(knownAge)}: ${headline(known)} (${words.sayers(known.alike.length, known.of)} then).`);
  return { tone: "unknown", head: `Cannot tell whether anything is lying: ${reasons}`, lines: [], says: "", notes };
}

function headline({ trackers, otherwise, alike, of, replicas }) {
  const by = (name) => trackers.filter(({ blame }) => blame === name).map(({ tracker }) => words.tracker(tracker));
  const is = (names, what) => (names.length === 0 ? [] : [`${words.list(names)} ${names.length === 1 ? "is" : "are"} ${what}`]);
  const otherwiseNames = otherwise.map(words.replica);
  const sure = [
    ...is(by("convicted"), "convicted of lying"),
    ...is(replicas.filter(({ proof }) => proof).map(({ replica }) => words.replica(replica)), "proven to lie"),
    ...(otherwiseNames.length === 0 ? [] : [`${words.list(otherwiseNames)} ${otherwiseNames.length === 1 ? "says" : "say"} otherwise than ${alike.length} of ${words.counted(of, "replica")}`]),
  ];
  const others = trackers.filter(({ blame }) => blame !== "convicted" && blame !== "none").map(({ tracker }) => words.tracker(tracker));
  const unsure = [
    ...is(others, "suspected"),
    ...is(replicas.filter(({ proof, certain }) => certain && !proof).map(({ replica }) => words.replica(replica)), "suspected"),
  ];
  if (sure.length > 0) return `Yes: ${[...sure, ...unsure].join("; ")}`;
  if (unsure.length > 0) return `Perhaps: ${unsure.join("; ")}`;
  return "No lie is known";
}

/** Each finding, what is sure first. */
function lines({ trackers, otherwise, alike, of, replicas, agreed }) {
  const ofTracker = ({ tracker, domain, blame, evidence, kinds }) => ({
    isSure: blame === "convicted",
    key: `t${tracker}`,
    mark: blameBadge(blame),
    text: [trackerLink(tracker), element("span", { class: "soft" }, ` (${domain})`), " ", words.list((Array.isArray(kinds) ? kinds : []).map(evidenceKind)) || "is held to have lied", "; ",
      element("a", { href: `#/trackers/${Number(tracker)}` }, words.counted(evidence, "piece of evidence", "pieces of evidence"))],
  });
  const ofOtherwise = (id) => ({
    isSure: true,
    key: `o${id}`,
    mark: badge("says otherwise", "outvoted"),
    text: [element("strong", null, words.replica(id)), ` gives another answer at position ${words.count(agreed.position.ordered)} than ${words.list(alike.map(words.replica))}: it lies or is broken`],
  });
  const ofReplica = ({ replica, what, by, proof, certain }) => ({
    isSure: proof,
    key: `f${replica}`,
    mark: proof ? badge("proof", "outvoted") : certain ? badge("suspected", "redone") : badge("one side's word", "pending"),
    text: [element("strong", null, words.replica(replica)), ": ", what, element("span", { class: "soft" }, ` (so ${by.length === 1 ? "says" : "say"} ${words.list(by.map(words.replica))}, ${by.length} of ${of})`)],
  });
  const all = [...trackers.filter(({ blame }) => blame !== "none").map(ofTracker), ...otherwise.map(ofOtherwise), ...replicas.map(ofReplica)];
  return all.sort((a, b) => Number(b.isSure) - Number(a.isSure));
}

/** Draws the banner. `isFull` on the first page, where it is the answer; elsewhere it is one line as long as nothing lies. */
export function drawVerdict(section, told, isFull) {
  const { tone, head, lines: all, says, notes } = told;
  section.dataset.tone = tone;
  section.toggleAttribute("data-full", isFull);
  const isOpen = isFull || tone === "unknown";
  const drawn = element("section", null, element("div", { class: "verdict-row" },
    element("span", { class: "verdict-mark", "aria-hidden": "true" }, MARKS[tone]),
    element("strong", { class: "verdict-head" }, head),
    element("span", { class: "verdict-says" }, says),
    element("div", { class: "verdict-body" },
      isOpen && all.length > 0 && element("ul", null, all.map(({ key, mark, text }) => element("li", { "data-key": key }, mark, element("span", null, text)))),
      isFull && tone === "clear" && element("p", { class: "soft" }, "No tracker is suspected or convicted, and the replicas agree. A lie that nobody has looked at does not show."),
      notes.map((note) => element("p", { class: "small" }, note)))));
  become(section, drawn);
}
