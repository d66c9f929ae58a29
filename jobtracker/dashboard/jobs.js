// All jobs, newest first.

import { element } from "./elements.js";
import { bar, head, jobBadge, jobLink, panel, table } from "./parts.js";
import * as words from "./words.js";

export function jobsPage() {
  return {
    title: "Jobs",
    nav: "jobs",
    concerned: ({ jobs }) => Array.isArray(jobs) && jobs.length > 0,
    async load(replicas) {
      return replicas.corroborated("jobs", ({ position, jobs }) => [position, jobs.map(({ revision: _, ...job }) => job)]);
    },
    draw: (answer) => [head("Jobs", [], answer), list(answer.body.jobs)],
  };
}

function list(jobs) {
  const progress = (stage, name) =>
    element("span", null, `${words.count(stage.agreed)} of ${words.count(stage.all)}`,
      bar([[stage.all === 0 ? 1 : stage.agreed / stage.all, "agreed"]], `${stage.agreed} of ${stage.all} ${name} tasks agreed`));
  const rows = jobs.map((job) => ({
    key: `j${job.job}`,
    cells: [
      jobLink(job.job),
      job.name,
      element("span", null, jobBadge(job.state), job.detail && element("span", { class: "small soft" }, " ", job.detail)),
      progress(job.maps, "map"),
      progress(job.reduces, "reduce"),
      job.disputed > 0 ? element("strong", null, words.count(job.disputed)) : "0",
      words.count(job.f),
      words.moment(job.submitted),
      words.duration(job.until - job.submitted),
    ],
  }));
  const columns = [["job", "title"], ["name"], ["state"], ["maps agreed"], ["reduces agreed"], ["disputed", "number"], ["f", "number"], ["submitted"], ["took", "number"]];
  return panel("All jobs", element("span", { class: "small soft" }, words.counted(jobs.length, "job")), table(columns, rows, "No job was submitted yet."));
}
