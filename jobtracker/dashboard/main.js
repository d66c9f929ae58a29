// Begins here: finds the replicas, keeps the verdict, and shows the page that the address names.

import { agreementPage } from "./agreement.js";
import { clusterPage } from "./cluster.js";
import { become, element } from "./elements.js";
import { jobPage } from "./job.js";
import { jobsPage } from "./jobs.js";
import { Live } from "./live.js";
import { ask, Replicas } from "./replicas.js";
import { storagePage } from "./storage.js";
import { taskPage } from "./task.js";
import { startTheme } from "./theme.js";
import { trackerPage } from "./tracker.js";
import { drawVerdict, said } from "./verdict.js";
import { Watch } from "./watch.js";
import * as words from "./words.js";

/** The pages that are always a step away, and whether they need a running cluster. */
const NAV = [["cluster", "Cluster", "#/", false], ["jobs", "Jobs", "#/jobs", false], ["storage", "Storage", "#/storage", true], ["agreement", "Agreement", "#/agreement", true]];
/** How often what is shown is loaded anew at most, and at least. */
const LOAD_MS_MIN = 500;
const LOAD_MS_MAX = 4000;
/** What is shown is stale when it could not be loaded for so long. */
const STALE_MS = 8000;
/** How long to wait before a server that does not answer at the start is asked again. */
const START_AGAIN_MS = 1000;

const part = (id) => document.getElementById(id);

/** Which page an address names. */
function pageAt(hash) {
  const parts = hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decode);
  const number = (text) => (/^(?:[a-z]+-)?\d{1,15}$/.test(text ?? "") ? Number(text.replace(/^[a-z]+-/, "")) : null);
  const [first, second, third, fourth] = parts;
  if (first === undefined) return clusterPage();
  if (first === "jobs" && second === undefined) return jobsPage();
  if (first === "jobs" && number(second) !== null && third === undefined) return jobPage(number(second));
  if (first === "jobs" && number(second) !== null && third === "tasks" && /^(map|reduce)-\d{1,9}$/.test(fourth ?? "")) return taskPage(number(second), fourth);
  if (first === "trackers" && number(second) !== null) return trackerPage(number(second));
  if (first === "storage") return storagePage(`/${parts.slice(1).join("/")}`);
  if (first === "agreement") return agreementPage();
  return { title: "No such page", nav: "", concerned: () => false, load: async () => null, draw: () => [element("h1", null, "No such page"), element("p", null, element("a", { href: "#/" }, "Go to the cluster"))] };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The page as it runs. */
class App {
  constructor(cluster, origin) {
    this.cluster = cluster;
    this.history = cluster.mode !== "live";
    this.replicas = new Replicas(cluster, origin);
    this.connection = { connected: false, lost: null };
    this.live = new Live(this.replicas, { event: (name, data) => this.hear(name, data), state: (state) => this.connected(state) });
    /** What the last event told of who is suspected, and of the view. */
    this.standing = null;
    this.view = null;
    /** How often in a row the source gave no answer. */
    this.silences = 0;
    this.page = null;
    this.data = null;
    this.error = null;
    this.toldHead = "";
    this.loaded = 0;
    this.loading = false;
    this.again = false;
    this.watch = this.history ? null : new Watch(this.replicas, (verdict) => this.judged(verdict));
    window.addEventListener("hashchange", () => this.open(true));
    setInterval(() => this.tick(), 1000);
    part("cluster-name").textContent = String(cluster.name);
    this.open(false);
  }

  /** Shows the page of the address. */
  open(isMove) {
    this.page?.leave?.();
    this.page = pageAt(location.hash);
    this.data = null;
    this.error = null;
    this.loaded = performance.now();
    document.title = `${this.page.title} · Quorate`;
    become(part("pages"), element("nav", null, NAV.filter(([, , , isLive]) => !isLive || !this.history).map(([name, label, href]) => element("a", { href, "aria-current": name === this.page.nav && "page" }, label))));
    become(part("main"), element("main", null, element("p", { class: "empty", "data-key": "loading" }, "Loading …")));
    this.drawVerdict();
    if (isMove) {
      part("main").focus({ preventScroll: true });
      window.scrollTo(0, 0);
      part("said").textContent = this.page.title;
    }
    if (!this.history) this.live.follow(this.page.job ?? null);
    this.load();
  }

  /** Loads what is shown anew: never twice at once, and not more often than every LOAD_MS_MIN. */
  async load() {
    if (this.loading) {
      this.again = true;
      return;
    }
    this.loading = true;
    this.again = false;
    const { page } = this;
    try {
      const data = await page.load(this.replicas);
      if (page === this.page) {
        this.data = data;
        this.loaded = performance.now();
        this.error = null;
      }
    } catch (error) {
      if (page === this.page) this.error = error;
    }
    if (page === this.page) this.draw();
    setTimeout(() => {
      this.loading = false;
      if (this.again || page !== this.page) this.load();
    }, page === this.page ? LOAD_MS_MIN : 0);
  }

  draw() {
    const { page, data, error } = this;
    const notice = this.notice();
    let drawn = null;
    if (data !== null) {
      try {
        drawn = page.draw(data, { verdict: this.watch?.verdict ?? null, replicas: this.replicas });
      } catch (cause) {
        console.error(cause);
        drawn = [element("p", { class: "panel", "data-key": "garbled" }, "What the replica answered cannot be shown: it is not what the API says.")];
      }
    } else if (error !== null) {
      drawn = [element("h1", null, page.title), element("p", { class: "panel", "data-key": "error" }, `${error.message}`)];
    } else if (page.title === "No such page") {
      drawn = page.draw();
    }
    if (drawn === null) return;
    become(part("main"), element("main", null, notice, ...drawn));
    this.drawFoot();
  }

  /** That what is shown is not of now, when it is not. */
  notice() {
    const age = performance.now() - this.loaded;
    const isStale = this.data !== null && !this.history && (age > STALE_MS || (this.error !== null && !this.connection.connected));
    part("main").toggleAttribute("data-stale", isStale);
    return isStale && element("p", { class: "stale", "data-key": "stale", role: "alert" }, `Stale: this was so ${words.duration(Math.round(age / 1000) * 1000)} ago. ${this.error?.message ?? "No answer came since"}.`);
  }

  hear(name, data) {
    if (name === "hello") {
      this.watch.look();
      this.load();
      return;
    }
    if (name === "change" && (data.standing !== this.standing || data.view !== this.view)) {
      [this.standing, this.view] = [data.standing, data.view];
      this.watch.look();
    }
    const isConcerned = name === "change" ? this.page.concerned(data) : this.page.event?.(name, data);
    if (isConcerned) this.load();
  }

  connected({ connected, replica }) {
    this.connection.connected = connected;
    // The loss is told until the replica is heard again or another is followed and the verdict came anew.
    if (!connected) this.connection.lost = replica;
    else if (this.connection.lost === replica) this.connection.lost = null;
    if (!connected) this.watch.look();
    this.drawVerdict();
    this.drawFoot();
  }

  judged(verdict) {
    if (this.replicas.distrust(verdict.otherwise)) this.live.leave();
    // The source may hang without its connection breaking.
    this.silences = verdict.silent.includes(this.replicas.source.id) ? this.silences + 1 : 0;
    if (this.silences >= 2 && this.connection.connected) {
      this.silences = 0;
      this.live.lost();
    }
    if (this.connection.lost !== null && !verdict.silent.includes(this.connection.lost) && this.connection.connected) this.connection.lost = null;
    this.drawVerdict();
    // The cluster's page says of each replica how it stands to the verdict.
    if (this.data !== null) this.draw();
  }

  drawVerdict() {
    const told = said({ watch: this.watch, replicas: this.replicas, connection: this.connection, history: this.history });
    drawVerdict(part("verdict"), told, this.page?.nav === "cluster" && this.page.title === "Cluster");
    if (told.head !== this.toldHead) {
      this.toldHead = told.head;
      part("said").textContent = told.head;
    }
  }

  drawFoot() {
    const { source } = this.replicas;
    const follows = this.connection.connected ? `Live: follows ${words.replica(source.id)}` : `Not connected: asking ${words.replica(source.id)}`;
    become(part("foot"), element("footer", null,
      element("span", { id: "follows", "data-connected": String(this.connection.connected) }, this.history ? "A record, not live" : follows),
      element("span", null, `Quorate ${this.cluster.version}`),
      element("span", null, "cluster ", element("span", { class: "mono" }, words.short(this.cluster.id))),
      element("span", null, element("a", { href: `${source.base}api/v1/openapi.json` }, "API"), ", ", element("a", { href: `${source.base}metrics` }, "metrics"))));
  }

  tick() {
    this.drawVerdict();
    if (!this.history && performance.now() - this.loaded > LOAD_MS_MAX) {
      this.load();
      if (this.data !== null) this.draw();
    }
  }
}

async function start() {
  startTheme(part("theme"));
  part("skip").onclick = (event) => {
    event.preventDefault();
    part("main").focus();
  };
  const origin = new URL("./", location.origin + location.pathname).href;
  for (;;) {
    try {
      const cluster = await ask(origin, "cluster");
      new App(cluster, origin);
      return;
    } catch (error) {
      const told = { tone: "unknown", head: "Cannot tell whether anything is lying: the server does not answer", lines: [], says: "", notes: [error.message] };
      drawVerdict(part("verdict"), told, true);
      await new Promise((resolve) => setTimeout(resolve, START_AGAIN_MS));
    }
  }
}

start();
