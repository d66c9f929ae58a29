// How the replicas agree: positions, batches, view changes, faults. What each replica says of itself is its word alone.

import { element } from "./elements.js";
import { badge, facts, head, panel, table } from "./parts.js";
import * as words from "./words.js";

export function agreementPage() {
  return {
    title: "Agreement",
    nav: "agreement",
    concerned: () => true,
    async load(replicas) {
      const answers = await replicas.askAll("agreement");
      if (answers.every(({ body }) => body === undefined)) throw replicas.refusal(answers);
      return { answers, source: replicas.source.id };
    },
    draw: ({ answers, source }, { replicas, verdict }) => [
      head("Agreement", [], null),
      eachPanel(answers),
      element("div", { class: "columns", "data-key": "columns" }, changesPanel(answers, source), faultsPanel(verdict, replicas)),
      peersPanel(answers, source),
    ],
  };
}

function eachPanel(answers) {
  const views = answers.map(({ body }) => body?.view).filter((view) => view !== undefined);
  const newest = Math.max(...views);
  const rows = answers.map(({ replica, body, error }) => ({
    key: `r${replica}`,
    cells: body === undefined ? [words.replica(replica), badge("does not answer", "redone", error?.message), "–", "–", "–", "–", "–", "–", "–"] : [
      element("span", null, words.replica(replica), body.primary === replica && body.view === newest ? [" ", badge("primary", "tentative")] : ""),
      body.halted ? badge("halted", "outvoted") : body.voting ? badge("votes", "agreed") : badge("may not vote", "redone"),
      body.changing_to === null ? words.count(body.view) : `${words.count(body.view)} → ${words.count(body.changing_to)}`,
      words.count(body.position?.ordered),
      element("span", { class: "mono small" }, words.short(body.position?.digest)),
      words.count(body.committed),
      words.count(body.checkpoint),
      `${words.count(body.pending)} / ${Number.isFinite(body.batches_per_s) ? body.batches_per_s.toFixed(1) : "–"}`,
      `${body.trusted_log ?? "–"}, ${words.count(body.epoch)} / ${words.count(body.log_position)}`,
    ],
  }));
  const columns = [["replica", "title"], ["standing"], ["view", "number"], ["executed", "number"], ["history"], ["committed", "number"], ["checkpoint", "number"], ["requests waiting / batches a second", "number"], ["trusted log, epoch / position"]];
  return panel("Replicas, each by its own word", element("span", { class: "small soft" }, "at one position two honest replicas have one history"), table(columns, rows, "No replica is known."));
}

function changesPanel(answers, source) {
  const teller = answers.find(({ replica, body }) => replica === source && body !== undefined) ?? answers.find(({ body }) => body !== undefined);
  const rows = teller.body.view_changes.map(({ time, from, to, primary, ordered }) => ({
    key: `v${to}`,
    cells: [`view ${words.count(from)} → ${words.count(to)}`, words.replica(primary), words.count(ordered), words.moment(time)],
  }));
  return panel("View changes", element("span", { class: "small soft" }, `seen by ${words.replica(teller.replica)} since it started`),
    table([["change", "title"], ["new primary"], ["at position", "number"], ["when"]], rows, "None: its first primary still proposes."));
}

function faultsPanel(verdict, { f }) {
  const rows = (verdict?.replicas ?? []).map(({ replica, what, by, proof, certain }) => ({
    key: `f${replica}`,
    cells: [words.replica(replica), proof ? badge("proof", "outvoted") : certain ? badge("suspicion", "redone") : badge("one side's word", "pending"), what, by.map(words.replica).join(", ")],
  }));
  return panel("Faults of replicas", element("span", { class: "small soft" }, `${words.count(f + 1)} must say so before it counts`),
    table([["who", "title"], ["how sure"], ["what"], ["so say"]], rows, "No replica holds anything against another."));
}

function peersPanel(answers, source) {
  const teller = answers.find(({ replica, body }) => replica === source && body !== undefined) ?? answers.find(({ body }) => body !== undefined);
  const rows = teller.body.peers.map(({ replica, executed, lag, epoch, log_position: position, waiting }) => ({
    key: `p${replica}`,
    cells: [words.replica(replica), words.count(executed ?? NaN), words.count(lag ?? NaN), `${words.count(epoch)} / ${words.count(position)}`, words.count(waiting)],
  }));
  return panel(`The others, as ${words.replica(teller.replica)} sees them`, null,
    table([["replica", "title"], ["executed", "number"], ["lag", "number"], ["epoch / log read to", "number"], ["statements waiting", "number"]], rows, "It is the only one."));
}
