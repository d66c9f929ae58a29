// What can become of attempts and tasks: letter, look and word of each. The words are those of the glossary in the architecture page.

/** How an attempt stands, by the letter of the API. `look` is one of pending, agreed, outvoted, tentative, redone. */
export const ATTEMPTS = {
  r: { letter: "P", look: "pending", word: "pending", says: "it runs, and has not voted" },
  v: { letter: "V", look: "pending", word: "voted", says: "it voted, and there is no verdict" },
  a: { letter: "A", look: "agreed", word: "agreed", says: "it voted as f + 1 did" },
  o: { letter: "O", look: "outvoted", word: "outvoted", says: "it voted otherwise than f + 1 did" },
  l: { letter: "L", look: "redone", word: "overdue", says: "it made no progress for too long; its vote still counts" },
  x: { letter: "X", look: "redone", word: "lost", says: "its tracker went away or could not run it" },
  w: { letter: "W", look: "pending", word: "withdrawn", says: "it was taken back through no fault of its tracker" },
  c: { letter: "N", look: "pending", word: "not needed", says: "its task was decided without it" },
};
const TENTATIVE = { letter: "T", look: "tentative", word: "tentative", says: "it works on input that has no verdict yet" };
const REDONE = { letter: "R", look: "redone", word: "redone", says: "it is redone or extra work, and has not voted" };
const UNKNOWN = { letter: "?", look: "pending", word: "unknown", says: "this page does not know its state" };

/** An attempt's state by its letter: an upper-case letter is redone or extra work. */
export function attempt(letter, isTentative) {
  const plain = letter.toLowerCase();
  const isRedone = letter !== plain;
  if (plain === "r") return { ...(isRedone ? REDONE : isTentative ? TENTATIVE : ATTEMPTS.r), isRedone };
  return { ...(Object.hasOwn(ATTEMPTS, plain) ? ATTEMPTS[plain] : UNKNOWN), isRedone };
}

/** The letter of an attempt's state that is given as a word. */
const LETTERS = { running: "r", voted: "v", agreed: "a", outvoted: "o", overdue: "l", lost: "x", declined: "x", withdrawn: "w", cancelled: "c" };
export const attemptOf = (state, isTentative) => attempt(LETTERS[state] ?? "?", isTentative);

/** How a task stands, by the letter of the API; `shade` is what its square in the overview is filled with. */
export const TASKS = {
  p: { word: "pending", look: "pending", shade: "none" },
  r: { word: "running", look: "pending", shade: "half" },
  v: { word: "voted", look: "tentative", shade: "half" },
  d: { word: "disputed", look: "outvoted", shade: "stripes" },
  a: { word: "agreed", look: "agreed", shade: "full" },
  q: { word: "agreed after a dispute", look: "outvoted", shade: "corner" },
  l: { word: "agreed, bytes made again", look: "redone", shade: "full" },
  f: { word: "failed", look: "outvoted", shade: "full" },
};
export const task = (letter) => TASKS[letter] ?? { word: "unknown", look: "pending", shade: "none" };

/** The letter of a task's state that is given as a word. */
const TASK_LETTERS = { pending: "p", running: "r", voted: "v", disputed: "d", agreed: "a", contested: "q", lacking: "l", failed: "f" };
export const taskOf = (state) => task(TASK_LETTERS[state]);

/** How a job's state looks. */
export const JOB_LOOKS = { running: "tentative", waiting: "redone", succeeded: "agreed", failed: "outvoted", killed: "pending" };

/** How blame looks, and what it means. */
export const BLAME = {
  none: { word: "no blame", look: "pending" },
  suspected: { word: "suspected", look: "redone" },
  convicted: { word: "convicted", look: "outvoted" },
};
export const blame = (name) => BLAME[name] ?? { word: String(name), look: "redone" };

/** What each kind of evidence says about its tracker. A kind that this page does not know is shown by its name. */
const EVIDENCE = {
  "two-votes": "signed two votes for one attempt",
  "wrong-segment": "did not serve what it voted",
  "wrong-chunk": "served a chunk with other bytes than its name says",
  outvoted: "was outvoted",
  garbled: "signed a command that nobody can read",
  complaints: "f + 1 domains complained of it",
};
export const evidenceKind = (kind) => (Object.hasOwn(EVIDENCE, kind) ? EVIDENCE[kind] : String(kind));
