// Who lies, as far as this page can know: what f + 1 replicas say alike, at one position of the history.
//
// Any replica may lie, the one that serves this page included. At most f do, so what f + 1 say alike is what an honest one says.
// Everything here is a function of the answers, so that it can be tested without a cluster.

/**
 * The position that answers are compared at: the (f + 1)th lowest that replicas claim. With all answers there, f liars can move it neither
 * above what an honest replica has executed nor below.
 */
export function comparedAt(answers, f) {
  const claimed = answers.map(({ body }) => body?.agreed?.position?.ordered).filter((ordered) => Number.isSafeInteger(ordered));
  claimed.sort((a, b) => a - b);
  return claimed[Math.min(f, claimed.length - 1)] ?? null;
}

/**
 * Compares what replicas say. An answer is `{replica, body}`, or `{replica, error}` from one that gave none, or `{replica, behind: true}`
 * from one that is not so far yet. Groups are by the text of `body.agreed`, position included.
 *
 * Gives `agreed` (what f + 1 say alike, or null), who says it (`alike`), who says something else at that position (`otherwise`), who is
 * elsewhere (`behind`) and who does not answer (`silent`).
 */
export function compare(answers, f) {
  const groups = new Map();
  for (const { replica, body } of answers) {
    if (body === undefined) continue;
    const text = JSON.stringify(body.agreed);
    if (!groups.has(text)) groups.set(text, []);
    groups.get(text).push(replica);
  }
  const large = Array.from(groups.entries()).filter(([, members]) => members.length >= f + 1);
  const silent = answers.filter((answer) => answer.body === undefined && !answer.behind).map(({ replica }) => replica);
  // Two groups of f + 1 are more liars than may be: then nobody can be believed.
  if (large.length !== 1) {
    return { agreed: null, alike: [], otherwise: [], behind: [], silent, contradiction: large.length > 1, groups: groups.size };
  }
  const [[text, alike]] = large;
  const agreed = JSON.parse(text);
  const otherwise = [];
  const behind = answers.filter((answer) => answer.behind).map(({ replica }) => replica);
  for (const { replica, body } of answers) {
    if (body === undefined || alike.includes(replica)) continue;
    const elsewhere = Number.isSafeInteger(body.agreed?.position?.ordered) && body.agreed.position.ordered !== agreed.position.ordered;
    (elsewhere ? behind : otherwise).push(replica);
  }
  return { agreed, alike, otherwise, behind, silent, contradiction: false, groups: groups.size };
}

/**
 * What replicas hold against replicas: for each accused, who says so, whether they say that it is proven, and in which words. Only
 * what f + 1 say is `certain`, since one of them at least is honest.
 */
export function accusedReplicas(answers, f) {
  const accused = new Map();
  for (const { replica, body } of answers) {
    if (body === undefined || !Array.isArray(body.own?.faults)) continue;
    for (const fault of body.own.faults) {
      if (!Number.isSafeInteger(fault?.replica)) continue;
      if (!accused.has(fault.replica)) accused.set(fault.replica, { replica: fault.replica, by: new Set(), proofs: new Set(), what: String(fault.what) });
      const entry = accused.get(fault.replica);
      entry.by.add(replica);
      if (fault.proof === true) {
        entry.proofs.add(replica);
        entry.what = String(fault.what);
      }
    }
  }
  const lines = Array.from(accused.values(), ({ replica, by, proofs, what }) => ({
    replica,
    what,
    by: Array.from(by).sort(),
    proof: proofs.size >= f + 1,
    certain: by.size >= f + 1,
  }));
  return lines.sort((a, b) => a.replica - b.replica);
}

/**
 * The whole verdict. `tone` is `clear`, `suspicion`, `lie` or `unknown`; `head` answers the question in one sentence.
 */
export function judge(answers, f) {
  const compared = compare(answers, f);
  const replicas = accusedReplicas(answers, f);
  const base = { ...compared, replicas, of: answers.length };
  if (compared.agreed === null) return { ...base, tone: "unknown", trackers: [] };
  const trackers = Array.isArray(compared.agreed.trackers) ? compared.agreed.trackers : [];
  const lies =
    trackers.some(({ blame }) => blame === "convicted") || compared.otherwise.length > 0 || replicas.some(({ proof }) => proof);
  const suspicion = trackers.some(({ blame }) => blame !== "none" && blame !== undefined) || replicas.some(({ certain }) => certain);
  return { ...base, trackers, tone: lies ? "lie" : suspicion ? "suspicion" : "clear" };
}
