// The replicas, as this page reaches them: asks one or all of them, and counts who says the same.
//
// Bounds: an answer is at most ANSWER_BYTES_MAX long and takes at most ANSWER_MS_MAX, whoever gives it.

/** The longest answer that is read: that of a job with far more tasks than the scheduler takes. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;
/** Replicas that are asked at most: more than a cluster can have. */
const REPLICAS_MAX = 64;
/** How long a replica may take. */
const ANSWER_MS_MAX = 5000;
/** How long the others are waited for once f + 1 have answered. */
const GRACE_MS = 1000;

/** Why there is no answer. `code` is the API's, or `silent`; `hint` says what may help. */
export class NoAnswer extends Error {
  constructor(code, message, hint = null) {
    super(message);
    this.code = code;
    this.hint = hint;
  }
}

/** Asks the server at `base` for a path of the API. */
export async function ask(base, path, milliseconds = ANSWER_MS_MAX) {
  let response;
  let text;
  try {
    const options = { signal: AbortSignal.timeout(milliseconds), cache: "no-store", credentials: "omit", redirect: "error" };
    response = await fetch(`${base}api/v1/${path}`, options);
    text = await bounded(response);
  } catch (error) {
    throw new NoAnswer("silent", error.name === "TimeoutError" ? "it does not answer in time" : "it cannot be reached");
  }
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new NoAnswer("garbled", `its answer (status ${response.status}) is not readable`);
  }
  if (!response.ok) throw new NoAnswer(String(body?.error?.code ?? response.status), String(body?.error?.message ?? "it refuses"), body?.error?.hint ?? null);
  return body;
}

async function bounded(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let read = 0;
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    read += value.byteLength;
    if (read > ANSWER_BYTES_MAX) {
      await reader.cancel();
      throw new Error("too long");
    }
    text += decoder.decode(value, { stream: true });
  }
}

/** All replicas of the cluster. `source` is the one whose events are followed. */
export class Replicas {
  constructor(cluster, origin) {
    this.live = cluster.mode === "live";
    this.f = this.live && Number.isSafeInteger(cluster.f) ? cluster.f : 0;
    this.all = this.live ? addresses(cluster, origin) : [{ id: 0, base: origin }];
    this.source = this.all.find(({ base }) => base === origin) ?? this.all[0];
    /** Those that said otherwise than f + 1 did: never the source while another answers. */
    this.distrusted = new Set();
  }

  /** Takes the next replica as source, trusted ones first. */
  next() {
    const at = this.all.indexOf(this.source);
    const turn = [...this.all.slice(at + 1), ...this.all.slice(0, at + 1)];
    this.source = turn.find(({ id }) => !this.distrusted.has(id)) ?? turn[0];
    return this.source;
  }

  /** Remembers who says otherwise; whether the source is one of them. */
  distrust(ids) {
    for (const id of ids) this.distrusted.add(id);
    return this.distrusted.has(this.source.id) && this.distrusted.size < this.all.length;
  }

  /**
   * Asks all, or these, at once: `{replica, body}` of each, or `{replica, error}`. Once f + 1 have answered, one that hangs is not waited
   * for as long as it could take.
   */
  async askAll(path, ids = null, milliseconds = ANSWER_MS_MAX) {
    const asked = this.all.filter(({ id }) => ids === null || ids.has(id));
    const answers = new Map();
    return new Promise((resolve) => {
      const finish = () => resolve(asked.map(({ id }) => answers.get(id) ?? { replica: id, error: new NoAnswer("silent", "it does not answer in time") }));
      const take = (answer) => {
        answers.set(answer.replica, answer);
        const given = Array.from(answers.values()).filter(({ body }) => body !== undefined).length;
        if (answers.size === asked.length) finish();
        else if (given === this.f + 1) setTimeout(finish, GRACE_MS);
      };
      if (asked.length === 0) finish();
      for (const { id, base } of asked) {
        ask(base, path, milliseconds).then(
          (body) => take({ replica: id, body }),
          (error) => take({ replica: id, error, behind: error.code === "behind" }),
        );
      }
    });
  }

  /**
   * What a page shows: the answer that f + 1 replicas give alike in what `comparable` picks from it. While there is none, as when replicas
   * are at different positions, the source's answer, or another's when that one gives none: one replica's word, and `alike` says so.
   */
  async corroborated(path, comparable) {
    const answers = await this.askAll(path);
    const groups = new Map();
    for (const answer of answers) {
      if (answer.body === undefined) continue;
      const text = picked(answer, comparable);
      if (text === null) continue;
      if (!groups.has(text)) groups.set(text, []);
      groups.get(text).push(answer);
    }
    const given = Array.from(groups.values()).flat();
    if (given.length === 0) throw this.refusal(answers);
    const largest = Array.from(groups.values()).sort((a, b) => b.length - a.length)[0];
    const of = this.all.length;
    if (largest.length >= this.f + 1) {
      const from = largest.find(({ replica }) => replica === this.source.id) ?? largest[0];
      return { body: from.body, from: from.replica, alike: largest.length, of, certain: true, isRecord: !this.live };
    }
    const order = [this.source.id, ...this.all.map(({ id }) => id).filter((id) => !this.distrusted.has(id))];
    const from = order.map((id) => given.find(({ replica }) => replica === id)).find((answer) => answer !== undefined) ?? given[0];
    return { body: from.body, from: from.replica, alike: 1, of, certain: this.f === 0 };
  }

  /** Why none answers: what f + 1 of them refuse alike, such as a job that is not there, or that nobody is reached. */
  refusal(answers) {
    const codes = answers.map(({ error }) => error.code);
    const common = codes.find((code) => code !== "silent" && codes.filter((other) => other === code).length >= this.f + 1);
    const found = answers.find(({ error }) => error.code === common) ?? answers[0];
    return common === undefined ? new NoAnswer("silent", "no replica answers") : found.error;
  }
}

/** What is compared of an answer, as text. An answer without the parts that a page reads is none. */
function picked(answer, comparable) {
  try {
    return JSON.stringify(comparable(answer.body));
  } catch {
    answer.error = new NoAnswer("garbled", "its answer is not what the API says");
    return null;
  }
}

/** Where replicas serve their pages. The one that served this page is where it was reached. */
function addresses(cluster, origin) {
  const members = [];
  for (const { replica, page, me } of cluster.replicas.slice(0, REPLICAS_MAX)) {
    if (!Number.isSafeInteger(replica) || members.some(({ id }) => id === replica)) continue;
    const base = me === true ? origin : web(page);
    members.push({ id: replica, base: base ?? "about:blank#" });
  }
  return members;
}

function web(page) {
  try {
    const url = new URL(page);
    return url.protocol === "http:" || url.protocol === "https:" ? `${url.origin}/` : null;
  } catch {
    return null;
  }
}
