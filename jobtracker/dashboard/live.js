// The stream of events of the source replica, and the change to another when it breaks.

/** How long to wait before all replicas are tried again, at first and at most. */
const PAUSE_MS = 500;
const PAUSE_MS_MAX = 5000;

/**
 * Follows the source's events, of one job if wished. Calls `on.event(name, data)` for each, and `on.state({connected, replica})` when a
 * connection is there or lost. When it breaks, the next replica becomes the source at once; after all were tried, it waits a little.
 */
export class Live {
  constructor(replicas, on) {
    this.replicas = replicas;
    this.on = on;
    this.job = null;
    this.connected = false;
    this.failures = 0;
    this.stream = null;
    this.timer = null;
  }

  /** Follows a job's tasks too, or no job's (`null`). */
  follow(job) {
    if (this.stream !== null && this.job === job) return;
    this.job = job;
    this.connect();
  }

  /** Leaves the source for the next replica. */
  leave() {
    this.replicas.next();
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    this.stream?.close();
    const source = this.replicas.source;
    const stream = new EventSource(`${source.base}api/v1/events${this.job === null ? "" : `?job=${this.job}`}`);
    this.stream = stream;
    const hear = (name) => (event) => {
      if (this.stream !== stream) return;
      let data;
      try {
        data = JSON.parse(event.data);
      } catch {
        this.lost();
        return;
      }
      if (name === "bye") {
        this.lost();
        return;
      }
      if (name === "hello") {
        this.failures = 0;
        this.connected = true;
        this.on.state({ connected: true, replica: source.id });
      }
      try {
        this.on.event(name, data);
      } catch {
        // It is not what the API says: another replica may do better.
        this.lost();
      }
    };
    for (const name of ["hello", "change", "tasks", "reset", "bye"]) stream.addEventListener(name, hear(name));
    stream.onerror = () => {
      if (this.stream === stream) this.lost();
    };
  }

  lost() {
    const lost = this.replicas.source.id;
    this.stream.close();
    this.stream = null;
    this.connected = false;
    this.failures += 1;
    this.on.state({ connected: false, replica: lost });
    const next = this.replicas.next();
    const round = Math.floor(this.failures / this.replicas.all.length);
    const pause = round === 0 && next.id !== lost ? 0 : Math.min(PAUSE_MS * 2 ** Math.min(round, 8), PAUSE_MS_MAX);
    this.timer = setTimeout(() => this.connect(), pause);
  }
}
