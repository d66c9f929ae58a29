// One tracker: what it ran, voted and serves, and every accusation with its proof.

import { element } from "./elements.js";
import { accusation, badge, blameBadge, dutyBadge, facts, head, jobLink, panel, repeatBadge, slots, table, taskLink } from "./parts.js";
import * as states from "./states.js";
import * as words from "./words.js";

export function trackerPage(id) {
  return {
    title: words.tracker(id),
    nav: "cluster",
    concerned: () => true,
    load: (replicas) => replicas.corroborated(`trackers/${id}`, ({ domain, blame, evidence, duty, accusations }) =>
      [domain, blame, evidence, duty, accusations.map(({ valid: _, ...piece }) => piece)]),
    draw: (answer) => draw(id, answer),
  };
}

function draw(id, answer) {
  const tracker = answer.body;
  const { accusations } = tracker;
  return [
    head(words.tracker(id), [["Cluster", "#/"]], answer, tracker.live ? badge("live", "agreed") : badge("away", "redone"), tracker.blame !== "none" && blameBadge(tracker.blame), dutyBadge(tracker.duty)),
    element("section", { class: "panel", "aria-label": "In short", "data-key": "short" }, facts([
      ["domain", element("span", { class: "small" }, String(tracker.domain)), String(tracker.address)],
      ["map slots used", slots(tracker.map_slots)],
      ["reduce slots used", slots(tracker.reduce_slots)],
      ["votes agreed", words.count(tracker.agreed), `${words.count(tracker.outvoted)} outvoted`],
      ["overdue attempts", words.count(tracker.overdue), "never evidence of a lie"],
      ["stores", tracker.stored ? words.bytes(tracker.stored.bytes) : "–", tracker.stored ? words.counted(tracker.stored.chunks, "chunk") : "not known"],
    ])),
    panel("Accusations", element("span", { class: "small soft" }, standing(tracker)),
      accusations.length === 0 ? element("p", { class: "empty" }, "Nothing is held against it. A lie that nobody looked at does not show.")
        : accusations.map((piece) => accusation(piece, `it ${states.evidenceKind(piece.kind)}`.replace("it f + 1", "f + 1")))),
    repeatsPanel(tracker),
    attemptsPanel(tracker),
  ];
}

/** What is held against it, and what it is given to do for that. */
function standing({ blame, duty }) {
  if (duty?.word === "quarantined") return `in quarantine: ${duty.why}`;
  if (duty?.word === "probation") return `on probation: ${words.count(duty.passed)} of ${words.count(duty.needed)} known answers given`;
  if (blame === "convicted") return "It is convicted.";
  return blame === "suspected" ? "It is suspected: it gets work, and each of its votes is compared." : "";
}

const isTest = ({ purpose }) => purpose === "repeats" || purpose === "probes";
const name = ({ job, task, attempt }) => element("span", null, jobLink(job), "/", taskLink(job, task), ` attempt ${attempt}`);
const took = ({ placed, ended }) => words.duration(ended === null ? NaN : ended - placed);

function attemptsPanel({ attempts }) {
  if (!Array.isArray(attempts)) return null;
  const rows = attempts.filter((its) => !isTest(its)).map((its) => {
    const { look, word, letter } = states.attemptOf(its.state, false);
    return { key: `${its.job}/${its.task}.${its.attempt}`, cells: [name(its), badge([element("b", null, letter), " ", word], look), words.moment(its.placed), took(its)] };
  });
  return panel("Attempts", element("span", { class: "small soft" }, "newest first"), table([["attempt", "title"], ["state"], ["placed"], ["took", "number"]], rows, "It has run nothing yet."));
}

/** What it was asked to run again, or on probation, and whether it gave what it should. */
function repeatsPanel({ attempts }) {
  const rows = (Array.isArray(attempts) ? attempts.filter(isTest) : []).map((its) => ({
    key: `${its.job}/${its.task}.${its.attempt}`,
    cells: [name(its), its.purpose === "repeats" ? `repeats its attempt ${its.repeats}` : "on probation", repeatBadge(its), words.moment(its.placed), took(its)],
  }));
  if (rows.length === 0) return null;
  return panel("Repeats", element("span", { class: "small soft" }, "they show whether it gives the same again, and decide nothing"),
    table([["attempt", "title"], ["why"], ["outcome"], ["placed"], ["took", "number"]], rows, ""));
}
