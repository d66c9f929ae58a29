// One job: its stages, the vote matrix, durations, counters and disputes.

import { element, place } from "./elements.js";
import { Matrix, Tasks } from "./matrix.js";
import { badge, bar, facts, head, jobBadge, panel, table, taskLink, trackerLink } from "./parts.js";
import * as states from "./states.js";
import * as words from "./words.js";

/** Tasks asked for at once: all that the scheduler takes. */
const TASKS_ASKED = 100_000;
const STAGES = ["map", "reduce"];
/** Disputes that are listed at once, and slow attempts of each stage: the vote matrix has them all. */
const DISPUTES_SHOWN = 6;
const SLOWEST_SHOWN = 4;

export function jobPage(id) {
  const matrices = Object.fromEntries(STAGES.map((stage) => [stage, new Matrix(id, stage)]));
  const tasks = {};
  /** Whether the tasks must be loaded whole: at first, after a `reset`, and once more to compare them after changes came. */
  const wanted = new Set(STAGES);
  const changed = new Set();

  async function loadTasks(replicas, stage) {
    const path = `jobs/${id}/tasks?stage=${stage}&from=0&max=${TASKS_ASKED}`;
    const answer = await replicas.corroborated(path, ({ states: letters, attempts, trackers }) => [letters, attempts, trackers]);
    tasks[stage] = new Tasks(answer.body);
    matrices[stage].set(tasks[stage]);
    wanted.delete(stage);
    if (answer.certain) changed.delete(stage);
    return answer;
  }

  return {
    title: words.job(id),
    nav: "jobs",
    job: id,
    concerned: ({ jobs }) => !Array.isArray(jobs) || jobs.some(({ job }) => job === id),
    event(name, data) {
      if (data.job !== id) return false;
      if (name === "reset") STAGES.forEach((stage) => wanted.add(stage));
      if (name === "tasks" && Object.hasOwn(matrices, data.stage) && tasks[data.stage]) {
        tasks[data.stage].apply(data);
        changed.add(data.stage);
        matrices[data.stage].set(tasks[data.stage]);
        return true;
      }
      return name === "reset";
    },
    async load(replicas) {
      // Times and the state of a replica's own records are its word alone; the rest is compared.
      const answer = await replicas.corroborated(`jobs/${id}`, ({ name, state, detail, attempts, cost, counters, disputed, disputes, output }) =>
        [name, state, detail, attempts, cost, counters, disputed, disputes, output]);
      const isEnded = !["running", "waiting"].includes(answer.body.state);
      const stages = STAGES.filter((stage) => wanted.has(stage) || (isEnded && changed.has(stage)));
      let why = null;
      for (const stage of answer.body.record === "none" ? [] : stages) {
        try {
          await loadTasks(replicas, stage);
        } catch (error) {
          why = error.message;
        }
      }
      return { answer, why };
    },
    draw: ({ answer, why }) => draw(id, answer, matrices, tasks, why),
    leave: () => STAGES.forEach((stage) => matrices[stage].leave()),
  };
}

function draw(id, answer, matrices, tasks, why) {
  const job = answer.body;
  const stages = stagesOf(job);
  const planned = stages.reduce((sum, { all }) => sum + all, 0) * (job.f + 1);
  return [
    head([words.job(id), " ", element("span", { class: "soft" }, job.name)], [["Jobs", "#/jobs"]], answer, jobBadge(job.state)),
    job.detail && element("p", { class: "panel", "data-key": "detail" }, String(job.detail)),
    element("section", { class: "panel", "aria-label": "In short", "data-key": "short" }, facts([
      ["took", words.duration(job.until - job.submitted), `since ${words.moment(job.submitted)}`],
      ["f", words.count(job.f), `${words.counted(job.f + 1, "vote")} decide`],
      ["attempts", words.count(job.attempts), job.attempts > planned ? `${words.count(job.attempts - planned)} more than planned` : `${words.count(planned)} planned`],
      ["disputed tasks", words.count(job.disputed)],
      ["shuffled", words.bytes(job.cost.shuffled), `${words.bytes(job.cost.refetched)} refetched`],
      ["restarts", words.count(job.cost.restarts)],
      ["output", element("span", { class: "small" }, String(job.output))],
    ])),
    panel("Stages", null, stages.map((stage) => stageLine(job, stage))),
    panel("Vote matrix", element("span", { class: "small soft" }, "tasks by attempts; a letter and a pattern for each state"),
      legend(), why && element("p", { class: "note" }, `The tasks are not known: ${why}.`),
      STAGES.filter((stage) => tasks[stage]).map((stage) => element("div", { "data-key": stage }, element("h3", null, `${stage === "map" ? "Map" : "Reduce"} tasks`), place(`matrix-${id}-${stage}`, matrices[stage].root))),
      element("p", { class: "note", "data-key": "keys" }, "In a grid: arrow keys move, ", element("kbd", null, "n"), " and ", element("kbd", null, "p"), " go to the next and the previous disputed task, ", element("kbd", null, "Enter"), " opens a task.")),
    disputesPanel(job),
    element("div", { class: "columns", "data-key": "columns" }, durationsPanel(job), countersPanel(job)),
    record(job),
  ];
}

/** The stages; of a replica that keeps no events of the job, what the job itself tells of them. */
function stagesOf(job) {
  if (Array.isArray(job.stages) && job.stages.length > 0) return job.stages;
  return [["map", job.maps], ["reduce", job.reduces]].map(([stage, { all, agreed }]) => ({ stage, all, agreed, states: null, attempts: null }));
}

function stageLine(job, { stage, all, agreed, settled, states: tally, attempts, left_ms: left }) {
  const running = tally === null ? 0 : tally.running + tally.voted + tally.disputed;
  const told = `${words.count(agreed)} of ${words.counted(all, `${stage} task`)} agreed`;
  const rest = job.state === "running" && agreed < all ? (Number.isFinite(left) ? `about ${words.duration(left)} left` : "time left not known") : "";
  const isTentative = stage === "reduce" && settled === false && job.state === "running";
  return element("div", { class: "stage", "data-key": stage },
    element("div", { class: "stage-line" },
      element("span", null, element("strong", null, told), isTentative && running > 0 ? [" ", badge("tentative", "tentative", "it works on input that has no verdict yet")] : "",
        tally !== null && tally.contested > 0 && [" ", badge(`${words.count(tally.contested)} after a dispute`, "outvoted")],
        tally !== null && tally.disputed > 0 && [" ", badge(`${words.count(tally.disputed)} disputed`, "outvoted")]),
      element("span", { class: "soft small" }, rest)),
    bar([[agreed / Math.max(1, all), "agreed"], [running / Math.max(1, all), "tentative"]], told),
    attempts && element("div", { class: "soft small" }, said(attempts)));
}

function said(attempts) {
  const told = [["running", "pending"], ["voted", "voted"], ["agreed", "agreed"], ["outvoted", "outvoted"], ["overdue", "overdue"], ["lost", "lost"], ["withdrawn", "withdrawn"], ["cancelled", "not needed"]]
    .filter(([key]) => attempts[key] > 0).map(([key, word]) => `${words.count(attempts[key])} ${word}`);
  return told.length === 0 ? "no attempt yet" : `attempts: ${told.join(", ")}`;
}

function legend() {
  const key = ({ letter, look, word, says }) => element("li", { title: says }, element("span", { class: "key", "data-state": look, "aria-hidden": "true" }, letter), word);
  const shown = [states.ATTEMPTS.r, states.attempt("r", true), states.ATTEMPTS.v, states.ATTEMPTS.a, states.ATTEMPTS.o, states.attempt("R", false), states.ATTEMPTS.l, states.ATTEMPTS.x, states.ATTEMPTS.c];
  return element("ul", { class: "legend", "aria-label": "Letters of attempts" }, shown.map(key),
    element("li", { title: "an attempt beyond the first f + 1, one that brings lost bytes back, or a reduce that started over" },
      element("span", { class: "key", "data-state": "agreed", "data-redone": "true", "aria-hidden": "true" }, "A"), "edge: redone or extra"));
}

function disputesPanel(job) {
  if (job.disputed === 0) return null;
  const line = ({ attempt, tracker, state, ballot, why }) => {
    const { look, word } = states.attemptOf(state, false);
    return element("li", null, badge(word, look), " ", trackerLink(tracker), ballot ? [" voted ", element("code", null, words.short(ballot))] : ` (attempt ${attempt})`, why ? `: ${why}` : "");
  };
  const rows = job.disputes.map(({ task, attempts }) => ({
    key: task,
    cells: [taskLink(job.job, task), element("ul", { class: "plain" }, attempts.map(line))],
  }));
  const listed = (some) => table([["task", "title"], ["who said what"]], some, "None is listed.");
  const more = rows.slice(DISPUTES_SHOWN);
  const rest = job.disputed - job.disputes.length;
  return panel("Disputes", element("span", { class: "small soft" }, words.counted(job.disputed, "task")),
    listed(rows.slice(0, DISPUTES_SHOWN)),
    more.length > 0 && element("details", null, element("summary", null, `${words.count(more.length)} more`), listed(more)),
    rest > 0 && element("p", { class: "note" }, `and ${words.count(rest)} that the job tracker does not list`));
}

function durationsPanel(job) {
  const stages = stagesOf(job).filter(({ durations }) => durations && durations.count > 0);
  const rows = stages.map(({ stage, durations: d }) => ({
    key: stage,
    cells: [stage, words.count(d.count), words.duration(d.p50_ms), words.duration(d.p90_ms), words.duration(d.p99_ms), words.duration(d.max_ms),
      Number.isFinite(d.skew) ? `${d.skew.toFixed(1)} ×` : "–"],
  }));
  const slowest = stages.flatMap(({ slowest: all }) => (all ?? []).slice(0, SLOWEST_SHOWN)).map(({ task, attempt, tracker, ms }) => ({
    key: `${task}.${attempt}`,
    cells: [taskLink(job.job, task), words.count(attempt), trackerLink(tracker), words.duration(ms)],
  }));
  return panel("Durations of attempts", null,
    table([["stage", "title"], ["attempts", "number"], ["p50", "number"], ["p90", "number"], ["p99", "number"], ["max", "number"], ["skew", "number"]], rows, "No attempt has voted yet."),
    rows.length > 0 && element("p", { class: "note" }, "Skew is the longest to the median."),
    slowest.length > 0 && [element("h3", null, "Slowest"), table([["task", "title"], ["attempt", "number"], ["tracker"], ["took", "number"]], slowest, "")]);
}

function countersPanel(job) {
  const rows = Object.entries(job.counters ?? {}).map(([name, value]) => ({ key: name, cells: [name, words.count(Number(value))] }));
  return panel("Counters", element("span", { class: "small soft" }, "agreed with the votes"), table([["counter", "title"], ["value", "number"]], rows, "The job counts nothing."));
}

function record({ record: kept, events }) {
  const told = kept === undefined ? null : kept === "none" ? "This replica keeps no event log of the job, so its tasks and times are not known here."
    : events?.gaps ? "The replica that tells this was away for a part of the job, so some of its events are missing."
    : events ? `${words.counted(events.count, "event")}, digest ${words.short(events.digest)}${kept === "kept" ? "; replayed from the event log" : ""}.` : null;
  return told && element("p", { class: "note", "data-key": "record" }, told);
}
