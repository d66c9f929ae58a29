// One task: its attempts, their votes, and the evidence.

import { element } from "./elements.js";
import { accusation, badge, facts, head, panel, table, trackerLink } from "./parts.js";
import * as states from "./states.js";
import * as words from "./words.js";

export function taskPage(job, task) {
  return {
    title: `${words.job(job)}/${task}`,
    nav: "jobs",
    job,
    concerned: ({ jobs }) => !Array.isArray(jobs) || jobs.some((changed) => changed.job === job),
    event: (name, data) => data.job === job && name === "tasks",
    load: (replicas) =>
      replicas.corroborated(`jobs/${job}/tasks/${encodeURIComponent(task)}`, ({ state, agreed, disputed, attempts, ballots }) =>
        [state, agreed, disputed, attempts.map(({ attempt, tracker, state: its, ballot }) => [attempt, tracker, its, ballot]), ballots]),
    draw: (answer) => draw(job, task, answer),
  };
}

function draw(job, name, answer) {
  const task = answer.body;
  const { word, look } = states.taskOf(task.state);
  return [
    head([words.job(job), "/", name], [["Jobs", "#/jobs"], [words.job(job), `#/jobs/${job}`]], answer, badge(word, look)),
    element("section", { class: "panel", "aria-label": "In short", "data-key": "short" }, facts([
      ["agreed on", task.agreed ? element("code", null, words.short(task.agreed)) : "nothing yet", `${words.counted(task.f + 1, "equal vote")} of distinct domains decide`],
      ["attempts", words.count(task.attempts.length), `${words.count(task.f + 1)} planned, at most ${words.count(2 * task.f + 1)} decide`],
      task.input && ["input", element("span", { class: "small" }, String(task.input.path)), `bytes ${words.count(task.input.start)} to ${words.count(task.input.end)}`],
    ])),
    ballotsPanel(task),
    attemptsPanel(task),
    timelinePanel(task),
    evidencePanel(task),
  ];
}

function ballotsPanel(task) {
  const voters = (ballot) => ballot.attempts.map((attempt) => task.attempts.find((its) => its.attempt === attempt)).filter(Boolean);
  const side = (ballot) => {
    const look = task.agreed === null ? "pending" : ballot.agreed ? "agreed" : "outvoted";
    return element("div", { class: "side ballot", "data-state": look, "data-key": ballot.digest },
      element("p", null, badge(task.agreed === null ? "no verdict yet" : ballot.agreed ? "agreed" : "outvoted", look), " ", words.counted(ballot.attempts.length, "vote")),
      element("p", { class: "mono small" }, String(ballot.digest)),
      element("p", null, "by ", voters(ballot).map(({ tracker, domain }, at) => [at > 0 ? ", " : "", trackerLink(tracker), domain ? element("span", { class: "soft" }, ` (${domain})`) : ""])),
      ballot.summary && element("p", { class: "small soft" }, String(ballot.summary)));
  };
  return panel("Votes", element("span", { class: "small soft" }, "votes are equal when their ballots' digests are"),
    task.ballots.length > 1 && element("p", { class: "note", "data-key": "explain" }, "The first record on which they differ is found by ", element("code", null, `quorate explain ${words.job(task.job)} ${task.task}`), "."),
    task.ballots.length === 0 ? element("p", { class: "empty" }, "Nobody has voted yet.") : element("div", { class: "sides" }, task.ballots.map(side)));
}

function attemptsPanel(task) {
  const rows = task.attempts.map((attempt) => {
    const { letter, look, word, says } = states.attemptOf(attempt.state, false);
    return {
      key: `a${attempt.attempt}`,
      cells: [
        `attempt ${attempt.attempt}`,
        trackerLink(attempt.tracker),
        attempt.domain ?? "–",
        element("span", null, badge([element("b", null, letter), " ", word], look, says), attempt.rerun ? [" ", badge("redone", "redone", "it decides nothing: it brings lost bytes back, or tests its tracker")] : "", attempt.overdue && word !== "overdue" ? [" ", badge("was overdue", "redone")] : ""),
        attempt.ballot ? element("code", null, words.short(attempt.ballot)) : "–",
        words.duration(attempt.ended === null ? NaN : attempt.ended - attempt.placed),
        attempt.cost ? words.bytes(attempt.cost.shuffled) : "–",
        attempt.cost ? `${words.bytes(attempt.cost.refetched)} / ${words.count(attempt.cost.restarts)}` : "–",
        attempt.why ? String(attempt.why) : "",
      ],
    };
  });
  return panel("Attempts", null,
    table([["attempt", "title"], ["tracker"], ["domain"], ["state"], ["vote"], ["took", "number"], ["shuffled", "number"], ["refetched / restarts", "number"], ["why"]], rows, "No attempt was placed yet."));
}

function timelinePanel(task) {
  const timed = task.attempts.filter(({ placed }) => Number.isFinite(placed));
  const events = Array.isArray(task.timeline) ? task.timeline : [];
  if (timed.length === 0) return null;
  const start = Math.min(...timed.map(({ placed }) => placed));
  const last = Math.max(start + 1, ...timed.map(({ placed, ended }) => ended ?? placed), ...events.map(({ time }) => time));
  const span = last - start;
  const row = ({ attempt, tracker, placed, ended, state }) => {
    const { look, word } = states.attemptOf(state, false);
    const until = ended ?? last;
    const style = { left: `${((placed - start) / span) * 100}%`, width: `${(Math.max(0, until - placed) / span) * 100}%` };
    return element("div", { class: "timeline-row", "data-key": `l${attempt}` },
      element("span", { class: "small" }, `attempt ${attempt}, `, trackerLink(tracker)),
      element("span", { class: "track", role: "img", "aria-label": `${word} after ${words.duration(until - placed)}` }, element("span", { "data-state": look, style })),
      element("span", { class: "small soft nowrap" }, words.duration(until - placed)));
  };
  const told = events.map(({ time, n, text }) => ({ key: `e${n}`, cells: [`+ ${words.duration(time - start)}`, String(text)] }));
  return panel("Timeline", element("span", { class: "small soft" }, `from ${words.moment(start)}`),
    element("div", { class: "timeline" }, timed.map(row)),
    told.length > 0 && element("details", { open: told.length <= 12 }, element("summary", null, words.counted(told.length, "event")), table([["when", "nowrap"], ["what"]], told, "")));
}

function evidencePanel({ accusations }) {
  if (!Array.isArray(accusations) || accusations.length === 0) return null;
  const about = ({ tracker, kind }) => [trackerLink(tracker), ` ${states.evidenceKind(kind)}`];
  return panel("Evidence", element("span", { class: "small soft" }, "made of what trackers signed; anybody can check it"), accusations.map((piece) => accusation(piece, about(piece))));
}
