// One task: its attempts, their votes, the first differing record side by side, and the evidence.

import { element } from "./elements.js";
import { accusation, badge, facts, head, panel, repeatBadge, saidBy, table, trackerLink } from "./parts.js";
import * as states from "./states.js";
import * as words from "./words.js";

/** Answers that say why there is no difference to show, and that the page need not ask for again while the votes stay. */
const FINAL = new Set(["no-difference", "no-votes", "no-comparison", "no-cluster"]);
/** How long the rest of the page waits for it. */
const DIFFERENCE_MS = 1500;

export function taskPage(job, task) {
  const path = `jobs/${job}/tasks/${encodeURIComponent(task)}`;
  /** Where votes differ, or why that is not known, and the votes that this is about. */
  let difference = null;

  /** Trackers are asked for the place, so this is asked for only where votes differ, and again only when there are others. */
  async function compare(replicas, { ballots, attempts }) {
    const about = JSON.stringify([ballots, attempts.map(({ ballot }) => ballot)]);
    if (difference !== null && difference.about === about && difference.isFinal) return;
    try {
      const answer = await replicas.corroborated(`${path}/difference`, ({ found }) => found);
      difference = { about, answer, isFinal: answer.certain };
    } catch (error) {
      difference = { about, error, isFinal: FINAL.has(error.code) };
    }
  }

  return {
    title: `${words.job(job)}/${task}`,
    nav: "jobs",
    job,
    concerned: ({ jobs }) => !Array.isArray(jobs) || jobs.some((changed) => changed.job === job),
    event: (name, data) => data.job === job && name === "tasks",
    async load(replicas) {
      const answer = await replicas.corroborated(path, ({ state, agreed, disputed, attempts, ballots }) =>
        [state, agreed, disputed, attempts.map(({ attempt, tracker, state: its, ballot }) => [attempt, tracker, its, ballot]), ballots]);
      if (replicas.live && differs(answer.body)) {
        await Promise.race([compare(replicas, answer.body), new Promise((resolve) => setTimeout(resolve, DIFFERENCE_MS))]);
      }
      return answer;
    },
    draw: (answer) => draw(job, task, answer, difference),
  };
}

const differs = ({ ballots, attempts }) => ballots.length > 1 || attempts.some((attempt) => attempt.differs === true);

function draw(job, name, answer, difference) {
  const task = answer.body;
  const deciding = task.attempts.filter(({ purpose }) => purpose !== "repeats" && purpose !== "probes");
  const { word, look } = states.taskOf(task.state);
  return [
    head([words.job(job), "/", name], [["Jobs", "#/jobs"], [words.job(job), `#/jobs/${job}`]], answer, badge(word, look)),
    element("section", { class: "panel", "aria-label": "In short", "data-key": "short" }, facts([
      ["agreed on", task.agreed ? element("code", null, words.short(task.agreed)) : "nothing yet", `${words.counted(task.f + 1, "equal vote")} of distinct domains decide`],
      ["attempts", words.count(deciding.length), `${words.count(task.f + 1)} planned, at most ${words.count(2 * task.f + 1)} decide`],
      task.input && ["input", element("span", { class: "small" }, String(task.input.path)), `bytes ${words.count(task.input.start)} to ${words.count(task.input.end)}`],
    ])),
    ballotsPanel(task),
    difference !== null && differencePanel(task, difference),
    attemptsPanel(deciding),
    repeatsPanel(task),
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

/** What was found where votes differ: the two sides of each comparison. */
function differencePanel(task, { answer, error }) {
  const title = "First difference";
  const explain = element("p", { class: "note", "data-key": "explain" }, "Everything about it, checked on your machine: ", element("code", null, `quorate explain ${words.job(task.job)} ${task.task}`));
  if (error !== undefined) {
    const isWaiting = ["busy", "late", "silent"].includes(error.code);
    const hint = error.hint ? ` (${error.hint})` : "";
    return panel(title, null, element("p", { class: "soft", "data-code": error.code }, isWaiting ? `Not found yet: ${error.message}. It is asked for again.` : `Not known: ${error.message}${hint}.`), explain);
  }
  return panel(title, saidBy(answer), answer.body.found.map((compared, at) => comparison(task, compared, at)), explain);
}

function comparison(task, { finding, text, place, sides }, at) {
  const told = element("p", { class: "small" }, finding === "difference" ? String(place) : String(text));
  const of = (pick) => sides.map((side) => String(pick(side) ?? ""));
  const hasRecords = sides.length > 0 && sides.every(({ key }) => typeof key === "string");
  const [keys, values, texts] = [of(({ key }) => key), of(({ value }) => value), of(({ text: its }) => its)];
  const standing = ({ tracker, attempt }) => task.attempts.find((its) => its.tracker === tracker && (attempt === null || its.attempt === attempt));
  const side = (its, number) => {
    const found = standing(its);
    const { word, look } = states.attemptOf(found?.state, false);
    const line = (name, text_, all) => element("div", { class: "field", "data-name": name }, element("span", { class: "small soft" }, name), marked(text_, all));
    return element("div", { class: "side", "data-state": look, "data-key": `s${its.tracker}.${its.attempt}` },
      element("p", null, trackerLink(its.tracker), " ", badge(word, look), its.attempt === null ? "" : element("span", { class: "small soft" }, ` attempt ${its.attempt}`)),
      element("pre", { class: "record", tabindex: 0, "aria-label": `what ${words.tracker(its.tracker)} has` },
        hasRecords ? [line("key", keys[number], keys), line("value", values[number], values)] : marked(texts[number], texts)));
  };
  return element("div", { class: "comparison", "data-key": `c${at}` }, told, sides.length > 0 && element("div", { class: "sides" }, sides.map(side)));
}

/** A text with what is not the same in all of them marked: between their common beginning and end. */
function marked(text, texts) {
  const shortest = Math.min(...texts.map(({ length }) => length));
  let start = 0;
  while (start < shortest && texts.every((other) => other[start] === text[start])) start += 1;
  let end = 0;
  while (end < shortest - start && texts.every((other) => other[other.length - 1 - end] === text[text.length - 1 - end])) end += 1;
  const middle = text.slice(start, text.length - end);
  return element("span", null, text.slice(0, start), middle !== "" && element("mark", null, middle), text.slice(text.length - end));
}

function attemptsPanel(attempts) {
  const rows = attempts.map((attempt) => {
    const { letter, look, word, says } = states.attemptOf(attempt.state, false);
    return {
      key: `a${attempt.attempt}`,
      cells: [
        `attempt ${attempt.attempt}`,
        trackerLink(attempt.tracker),
        attempt.domain ?? "–",
        element("span", null, badge([element("b", null, letter), " ", word], look, says), attempt.purpose === "brings-back" ? [" ", badge("redone", "redone", "it brings lost bytes back, and decides nothing")] : "", attempt.overdue && word !== "overdue" ? [" ", badge("was overdue", "redone")] : ""),
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

/** Attempts that test their trackers: they decide nothing. */
function repeatsPanel(task) {
  const rows = task.attempts.filter(({ purpose }) => purpose === "repeats" || purpose === "probes").map((attempt) => ({
    key: `r${attempt.attempt}`,
    cells: [
      `attempt ${attempt.attempt}`,
      trackerLink(attempt.tracker),
      attempt.purpose === "repeats" ? `repeats its attempt ${attempt.repeats}` : "on probation: the answer is known",
      repeatBadge(attempt),
      attempt.ballot ? element("code", null, words.short(attempt.ballot)) : "–",
      words.duration(attempt.ended === null ? NaN : attempt.ended - attempt.placed),
    ],
  }));
  if (rows.length === 0) return null;
  return panel("Repeats", element("span", { class: "small soft" }, "they show whether a tracker gives the same again, and decide nothing"),
    table([["attempt", "title"], ["tracker"], ["why"], ["outcome"], ["vote"], ["took", "number"]], rows, ""));
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
