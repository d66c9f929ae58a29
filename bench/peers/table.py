"""The table, and what is kept of it."""

import datetime
import json
import os
import shlex
import statistics
import sys

from install import HERE, REPOSITORY, first_line

# Above this share of all cores used by others a figure says little.
QUIET = 0.04
HEADS = ["job", "program", "job s", "process s", "(range)", "CPU s", "peak MiB", "× f = 0", "× f = 1"]
LEGEND = """\
* process s: the whole process, from its start to its end, with reading and writing files; the median, and the range.
* job s: Quorate's job alone, from submission to end by the job tracker's clock, with input and output in the chunk
  store. The rest of the process starts a cluster of five trackers, stores the input in f + 1 copies, and writes the
  output as files.
* × f = 0, × f = 1: a program's process s over Quorate's job s with that f, and after the stroke over its process s:
  above 1 Quorate is faster. In Quorate's own rows job s is compared with job s.
* CPU s: of the whole process and all that it started. Peak MiB: of the largest process, with the pages of files that it
  mapped."""


class Row:
    """The runs of one program."""

    def __init__(self, peer):
        self.peer = peer
        self.costs = []
        self.jobs_s = []

    def median(self, name):
        return statistics.median(getattr(cost, name) for cost in self.costs)

    def wall_s(self):
        return self.median("wall_s")

    def job_s(self):
        return statistics.median(self.jobs_s) if self.jobs_s else None

    def busy(self):
        return self.median("others") > QUIET


def markdown(rows):
    """One table of all rows, the fastest program of a job first."""
    lines = [HEADS]
    jobs = list(dict.fromkeys(row.peer.job for row in rows))
    for job in jobs:
        of_job = sorted((row for row in rows if row.peer.job == job), key=Row.wall_s)
        lines += [cells(row, of_job) for row in of_job]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    rule = ["-" * width if column < 2 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    text = ""
    for line in [HEADS, rule, *lines[1:]]:
        padded = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))]
        text += f"| {' | '.join(padded)} |\n"
    return text


def cells(row, rows):
    walls = [cost.wall_s for cost in row.costs]
    name = row.peer.name + (" \\*" if row.busy() else "")
    job_s = row.job_s()
    return [
        row.peer.job,
        name,
        "–" if job_s is None else f"{job_s:.2f}",
        f"{row.wall_s():.2f}",
        f"{min(walls):.2f}–{max(walls):.2f}" if len(walls) > 1 else "one run",
        f"{row.median('cpu_s'):.2f}",
        f"{row.median('peak_mib'):,.0f}",
        ratio(row, rows, 0),
        ratio(row, rows, 1),
    ]


def ratio(row, rows, f):
    """A program's time over Quorate's job and process; a row of Quorate's own compares like with like."""
    base = next((other for other in rows if other.peer.name == f"Quorate, f = {f}"), None)
    if base is None or base.job_s() is None:
        return "–"
    own = row.job_s() if row.job_s() is not None else row.wall_s()
    return f"{own / base.job_s():.2f} / {row.wall_s() / base.wall_s():.2f}"


def notes(rows, absent, failed):
    """What the table does not say."""
    lines = []
    busy = [row for row in rows if row.busy()]
    if busy:
        most = max(row.median("others") for row in busy)
        lines.append(f"* \\*: others used the machine meanwhile, up to {most:.0%} of it: quote nothing of these rows.")
    lines += [f"* Skipped: {label}: {reason}." for label, reason in absent]
    lines += [f"* **Failed**: {label}: {reason}." for label, reason in failed]
    return "\n".join(lines)


def machine():
    """The machine in a line."""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    cores = len(os.sched_getaffinity(0))
    return f"{first_line(['uname', '-sm'])}, {models[0] if models else 'unknown'}, {cores} cores, {memory_gib:.0f} GiB"


def keep(places, size, command, versions, rows, told):
    """Writes the table and all measurements to the results that are kept in the repository."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    folder = REPOSITORY / "bench" / "results"
    folder.mkdir(exist_ok=True)
    listed = "\n".join(f"* {line}" for line in [f"Machine: {machine()}", f"Command: `{command}`", *versions])
    measured = [
        {
            "job": row.peer.job,
            "program": row.peer.name,
            "command": without_folders(shlex.join(map(str, row.peer.command)), places),
            "job_s": row.jobs_s,
            "runs": [vars(cost) for cost in row.costs],
        }
        for row in rows
    ]
    commands = "".join(f"{one['job']}: {one['program']}\n    {one['command']}\n" for one in measured)
    text = (
        f"# Beside what a user would take instead, {today}\n\nInput of {size} for each job.\n\n{told}\n\n"
        f"## Machine, versions, commands\n\n{listed}\n\n```text\n{commands}```\n"
    )
    (folder / f"{today}-peers.md").write_text(without_folders(text, places))
    everything = {"date": today, "size": size, "machine": machine(), "versions": versions, "measured": measured}
    (folder / f"{today}-peers.json").write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")
    print(f"kept in bench/results/{today}-peers.md and .json", file=sys.stderr)


def without_folders(text, places):
    """Names instead of this machine's folders."""
    names = {places.scratch: "$SCRATCH", places.target: "$TARGET", HERE: "bench/peers", REPOSITORY: "."}
    for folder, name in names.items():
        text = text.replace(str(folder), name)
    return text
