// One task: its attempts, their votes, the first differing record side by side, and the evidence.

import { element } from "./elements.js";
import { accusation, badge, facts, head, panel, table, trackerLink } from "./parts.js";
import * as states from "./states.js";
import * as words from "./words.js";

export function taskPage(job, task) {
  let difference = null;
  return {
    title: `${words.job(job)}/${task}`,
    nav: "jobs",
    job,
    concerned: ({ jobs }) => !Array.isArray(jobs) || jobs.some((changed) => changed.job === job),
    event: (name, data) => data.job === job && name === "tasks",
    async load(replicas) {
      const path = `jobs/${job}/tasks/${encodeURIComponent(task)}`;
      const answer = await replicas.corroborated(path, ({ state, agreed, disputed, attempts, ballots }) =>
        [state, agreed, disputed, attempts.map(({ attempt, tracker, state: its, ballot }) => [attempt, tracker, its, ballot]), ballots]);
      if (answer.body.disputed === true && difference?.body.state !== "found") {
        try {
          difference = await replicas.corroborated(`${path}/difference`, (body) => body);
        } catch (error) {
          difference = { body: { state: "unavailable", why: error.message } };
        }
      }
      return { answer, difference };
    },
    draw: (data) => draw(job, task, data),
  };
}

function draw(job, name, { answer, difference }) {
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
    difference && differencePanel(task, difference),
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
    task.ballots.length === 0 ? element("p", { class: "empty" }, "Nobody has voted yet.") : element("div", { class: "sides" }, task.ballots.map(side)));
}

function differencePanel(task, { body, certain }) {
  if (body.state !== "found" || !Array.isArray(body.sides)) {
    return panel("First differing record", null, element("p", { class: "soft" }, `Not known: ${body.why ?? "nobody has looked yet"}`));
  }
  const where = `record ${words.count(body.record)} of partition ${words.count(body.partition)}`;
  const texts = body.sides.map(({ text }) => String(text));
  const look = (tracker) => states.attemptOf(task.attempts.find((its) => its.tracker === tracker)?.state, false);
  const side = ({ tracker, text }) => {
    const { word, look: its } = look(tracker);
    return element("div", { class: "side", "data-state": its, "data-key": `s${tracker}` },
      element("p", null, trackerLink(tracker), " ", badge(word, its)),
      element("pre", { class: "record", tabindex: 0, "aria-label": `what tracker-${tracker} gave` }, marked(String(text), texts)));
  };
  return panel("First differing record", element("span", { class: "small soft" }, where),
    element("div", { class: "sides difference" }, body.sides.map(side)), !certain && element("p", { class: "note" }, "One replica's word."));
}

/** A text with what is not the same in all of them marked: between their common beginning and end. */
function marked(text, texts) {
  const shortest = Math.min(...texts.map(({ length }) => length));
  let start = 0;
  while (start < shortest && texts.every((other) => other[start] === text[start])) start += 1;
  let end = 0;
  while (end < shortest - start && texts.every((other) => other[other.length - 1 - end] === text[text.length - 1 - end])) end += 1;
  return [text.slice(0, start), element("mark", null, text.slice(start, text.length - end)), text.slice(text.length - end)];
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
