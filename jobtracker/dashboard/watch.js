// Keeps the verdict: asks all replicas how they stand, again and again, and whenever something changes.

import { comparedAt, judge } from "./standing.js";

/** How often all replicas are asked although nothing seems to change. */
const EVERY_MS = 2000;
/** How long a replica may take to say how it stands. */
const STANDING_MS_MAX = 3000;
/** How soon again at the earliest. */
const AGAIN_MS = 400;
/** A verdict older than this is not one on what is right now. */
export const FRESH_MS = 8000;

export class Watch {
  /** `changed(verdict)` is called with each new verdict. */
  constructor(replicas, changed) {
    this.replicas = replicas;
    this.changed = changed;
    /** The last verdict, and when it was made. */
    this.verdict = null;
    this.at = 0;
    /** The last one that f + 1 replicas bore out. */
    this.known = null;
    this.knownAt = 0;
    this.asking = false;
    this.again = false;
    setInterval(() => this.look(), EVERY_MS);
    this.look();
  }

  /** Asks now, or right after what is being asked. */
  async look() {
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    this.again = false;
    try {
      this.take(await this.ask());
    } finally {
      this.asking = false;
      if (this.again) setTimeout(() => this.look(), AGAIN_MS);
    }
  }

  async ask() {
    const { replicas } = this;
    const now = await replicas.askAll("standing", null, STANDING_MS_MAX);
    // A replica that claims to be another one says nothing.
    const own = (answer) => (answer.body === undefined || answer.body.own?.replica === answer.replica ? answer : { ...answer, body: undefined });
    const answers = replicas.live ? now.map(own) : now;
    const at = comparedAt(answers, replicas.f);
    if (at === null) return judge(answers, replicas.f);
    const elsewhere = new Set(answers.filter(({ body }) => body !== undefined && body.agreed?.position?.ordered !== at).map(({ replica }) => replica));
    if (elsewhere.size === 0) return judge(answers, replicas.f);
    const there = new Map((await replicas.askAll(`standing?at=${at}`, elsewhere, STANDING_MS_MAX)).map((answer) => [answer.replica, own(answer)]));
    return judge(answers.map((answer) => there.get(answer.replica) ?? answer), replicas.f);
  }

  take(verdict) {
    this.verdict = verdict;
    this.at = performance.now();
    if (verdict.agreed !== null) {
      this.known = verdict;
      this.knownAt = this.at;
    }
    this.changed(verdict);
  }
}
