// The first page: replicas, trackers, domains, and what is held against whom. The verdict above it answers who lies.

import { element } from "./elements.js";
import { blameBadge, badge, bar, dutyBadge, facts, head, jobBadge, jobLink, panel, slots, table, trackerLink } from "./parts.js";
import * as words from "./words.js";

/** Jobs shown here; the page of jobs has all. */
const NEWEST = 5;

export function clusterPage() {
  return {
    title: "Cluster",
    nav: "cluster",
    concerned: () => true,
    async load(replicas) {
      const ordered = ({ name, id, f, agreement, domains, position, trackers, jobs }) => [name, id, f, agreement, domains, position, trackers, jobs];
      const [cluster, jobs] = await Promise.all([
        replicas.corroborated("cluster", ordered),
        replicas.corroborated("jobs", ({ position, jobs: all }) => [position, all.map(({ revision: _, ...job }) => job)]),
      ]);
      return { cluster, jobs };
    },
    draw: ({ cluster, jobs }, { verdict, replicas }) => [
      head("Cluster", [], cluster),
      overview(cluster.body),
      cluster.body.mode === "live" && replicaPanel(cluster, verdict, replicas),
      trackerPanel(cluster.body),
      jobPanel(jobs.body),
      domainPanel(cluster.body),
    ],
  };
}

function overview(cluster) {
  const { trackers, jobs } = cluster;
  const live = trackers.filter((tracker) => tracker.live).length;
  return element("section", { class: "panel", "aria-label": "In short", "data-key": "short" },
    facts([
      ["trackers live", `${live} of ${trackers.length}`, words.counted(cluster.domains, "domain")],
      cluster.mode === "live" && ["primary", words.replica(cluster.primary), cluster.changing_to === null ? `view ${words.count(cluster.view)}` : `view ${words.count(cluster.view)}, changing to ${words.count(cluster.changing_to)}`],
      ["jobs running", words.count(jobs.running + jobs.waiting), `${words.count(jobs.succeeded)} succeeded, ${words.count(jobs.failed)} failed, ${words.count(jobs.killed)} killed`],
      cluster.position && ["position", words.count(cluster.position.ordered), element("span", { class: "mono" }, words.short(cluster.position.digest))],
      ["f", words.count(cluster.f), cluster.agreement],
    ]),
    cluster.assumption && element("p", { class: "note", style: { "margin-top": "14px" } }, cluster.assumption));
}

function replicaPanel({ body: cluster, from }, verdict, { distrusted }) {
  const says = (id) => {
    if (!verdict || verdict.agreed === null) return badge("not compared", "pending");
    if (verdict.alike.includes(id)) return badge("agrees", "agreed");
    if (verdict.otherwise.includes(id)) return badge("says otherwise", "outvoted");
    if (verdict.behind.includes(id)) return badge("behind", "pending");
    return badge("does not answer", "redone");
  };
  const rows = cluster.replicas.map((seen) => ({
    key: `r${seen.replica}`,
    cells: [
      element("span", null, seen.page ? element("a", { href: seen.page, rel: "noopener" }, words.replica(seen.replica)) : words.replica(seen.replica),
        seen.primary ? [" ", badge("primary", "tentative")] : "", distrusted.has(seen.replica) ? [" ", badge("not believed", "outvoted")] : ""),
      says(seen.replica),
      seen.executed === null ? "–" : words.count(seen.executed),
      seen.lag === null ? "–" : words.count(seen.lag),
      seen.trusted_log ?? element("span", { class: "soft" }, "only it can say"),
      `${words.count(seen.epoch)} / ${words.count(seen.log_position)}`,
      words.count(seen.waiting),
    ],
  }));
  return panel("Replicas", element("span", { class: "small soft" }, `as ${words.replica(from)} sees them; what they say on who lies is compared by this page`),
    table([["replica", "title"], ["on who lies"], ["executed", "number"], ["lag", "number"], ["trusted log"], ["epoch / position", "number"], ["waiting", "number"]], rows, "No replica is known."));
}

function trackerPanel({ trackers }) {
  const stored = Math.max(1, ...trackers.map((tracker) => tracker.stored?.bytes ?? 0));
  const rows = trackers.map((tracker) => ({
    key: `t${tracker.tracker}`,
    cells: [
      trackerLink(tracker.tracker),
      tracker.domain,
      element("span", null, tracker.live ? badge("live", "agreed") : badge("away", "redone"), " ", dutyBadge(tracker.duty)),
      tracker.blame === "none" ? element("span", { class: "soft" }, "none") : element("span", null, blameBadge(tracker.blame), " ",
        element("a", { href: `#/trackers/${Number(tracker.tracker)}`, class: "small nowrap" }, words.counted(tracker.evidence, "accusation"))),
      slots(tracker.map_slots),
      slots(tracker.reduce_slots),
      `${words.count(tracker.agreed)} / ${words.count(tracker.outvoted)} / ${words.count(tracker.overdue)}`,
      tracker.stored ? element("span", { class: "stored" }, words.bytes(tracker.stored.bytes), bar([[tracker.stored.bytes / stored, "plain"]], `${words.counted(tracker.stored.chunks, "chunk")}`)) : "–",
    ],
  }));
  return panel("Trackers", null,
    table([["tracker", "title"], ["domain"], ["presence"], ["blame"], ["map slots used"], ["reduce slots used"], ["votes agreed / outvoted / overdue", "number"], ["stored"]], rows, "No tracker is configured."));
}

function jobPanel({ jobs }) {
  const rows = jobs.slice(0, NEWEST).map((job) => ({
    key: `j${job.job}`,
    cells: [
      element("span", null, jobLink(job.job), " ", element("span", { class: "soft" }, job.name)),
      jobBadge(job.state),
      `${words.count(job.maps.agreed)} of ${words.count(job.maps.all)}`,
      `${words.count(job.reduces.agreed)} of ${words.count(job.reduces.all)}`,
      words.count(job.disputed),
    ],
  }));
  const all = element("a", { href: "#/jobs", class: "small" }, jobs.length > NEWEST ? `all ${words.count(jobs.length)} jobs` : "all jobs");
  return panel("Newest jobs", all,
    table([["job", "title"], ["state"], ["maps agreed"], ["reduces agreed"], ["disputed", "number"]], rows, "No job was submitted yet."));
}

function domainPanel({ trackers }) {
  const domains = new Map();
  for (const tracker of trackers) {
    if (!domains.has(tracker.domain)) domains.set(tracker.domain, []);
    domains.get(tracker.domain).push(tracker);
  }
  const rows = Array.from(domains, ([domain, members]) => ({
    key: domain,
    cells: [
      domain,
      members.map(({ tracker }, at) => [at > 0 ? ", " : "", trackerLink(tracker)]),
      `${members.filter(({ live }) => live).length} of ${members.length}`,
      members.some(({ blame }) => blame !== "none") ? members.filter(({ blame }) => blame !== "none").map(({ blame }) => [blameBadge(blame), " "]) : element("span", { class: "soft" }, "none"),
    ],
  }));
  return panel("Domains", element("span", { class: "small soft" }, "Trackers of one domain may fail or lie together, so they count as one."),
    table([["domain", "title"], ["trackers"], ["live"], ["blame"]], rows, "No domain is configured."));
}
