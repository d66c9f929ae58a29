// One tracker: what it ran, voted and serves, and every accusation with its proof.

import { element } from "./elements.js";
import { accusation, badge, blameBadge, facts, head, jobLink, panel, slots, table, taskLink } from "./parts.js";
import * as states from "./states.js";
import * as words from "./words.js";

export function trackerPage(id) {
  return {
    title: words.tracker(id),
    nav: "cluster",
    concerned: () => true,
    load: (replicas) => replicas.corroborated(`trackers/${id}`, ({ domain, blame, evidence, accusations }) =>
      [domain, blame, evidence, accusations.map(({ valid: _, ...piece }) => piece)]),
    draw: (answer) => draw(id, answer),
  };
}

function draw(id, answer) {
  const tracker = answer.body;
  const { accusations } = tracker;
  return [
    head(words.tracker(id), [["Cluster", "#/"]], answer, tracker.live ? badge("live", "agreed") : badge("away", "redone"), tracker.blame !== "none" && blameBadge(tracker.blame)),
    element("section", { class: "panel", "aria-label": "In short", "data-key": "short" }, facts([
      ["domain", element("span", { class: "small" }, String(tracker.domain)), String(tracker.address)],
      ["map slots used", slots(tracker.map_slots)],
      ["reduce slots used", slots(tracker.reduce_slots)],
      ["votes agreed", words.count(tracker.agreed), `${words.count(tracker.outvoted)} outvoted`],
      ["overdue attempts", words.count(tracker.overdue), "never evidence of a lie"],
      ["stores", tracker.stored ? words.bytes(tracker.stored.bytes) : "–", tracker.stored ? words.counted(tracker.stored.chunks, "chunk") : "not known"],
    ])),
    panel("Accusations", element("span", { class: "small soft" }, tracker.blame === "convicted" ? "It is convicted, and gets no more work." : tracker.blame === "suspected" ? "It is suspected: it gets work, and each of its votes is compared." : ""),
      accusations.length === 0 ? element("p", { class: "empty" }, "Nothing is held against it. A lie that nobody looked at does not show.")
        : accusations.map((piece) => accusation(piece, `it ${states.evidenceKind(piece.kind)}`.replace("it f + 1", "f + 1")))),
    attemptsPanel(tracker),
  ];
}

function attemptsPanel({ attempts }) {
  if (!Array.isArray(attempts)) return null;
  const rows = attempts.map(({ job, task, attempt, state, placed, ended }) => {
    const { look, word, letter } = states.attemptOf(state, false);
    return {
      key: `${job}/${task}.${attempt}`,
      cells: [element("span", null, jobLink(job), "/", taskLink(job, task), ` attempt ${attempt}`), badge([element("b", null, letter), " ", word], look), words.moment(placed),
        words.duration(ended === null ? NaN : ended - placed)],
    };
  });
  return panel("Attempts", element("span", { class: "small soft" }, "newest first"), table([["attempt", "title"], ["state"], ["placed"], ["took", "number"]], rows, "It has run nothing yet."));
}
