"""The table, and what is kept of it."""

import datetime
import json
import os
import shlex
import statistics
from pathlib import Path

from install import HERE, REPOSITORY, first_line

# Above this share of all cores used by others a figure says little.
QUIET = 0.04
HEADS = ["job", "program", "job s", "process s", "(range)", "CPU s", "peak MiB", "× f = 0", "× f = 1"]
LEGEND = """\
* process s: the whole process, from its start to its end, with reading and writing files; the median, and the range.
* job s: Quorate's job alone, from submission to end by the job tracker's clock, with input and output in the chunk store. The
  rest of the process starts a cluster, stores the input in f + 1 copies, and writes the output as files.
* × f = 0, × f = 1: process s over Quorate's with that f: its job s, and after the stroke its process s. Above 1 Quorate is faster.
* CPU s: of the whole process and all that it started. Peak MiB: of the largest process, with the pages of files that it mapped."""


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
        lines.append(f"* \\*: others used the machine meanwhile, up to {most:.0%} of its cores: quote nothing of these rows.")
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


def shown(command, places):
    """A command, with names for this machine's folders."""
    text = shlex.join(str(part) for part in command)
    names = {places.scratch: "$SCRATCH", places.target: "$TARGET", HERE: "bench/peers", REPOSITORY: "."}
    for folder, name in names.items():
        text = text.replace(str(folder), name)
    return text


def keep(places, size, command, versions, rows, told):
    """Writes the table and all measurements to the results that are kept in the repository."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    folder = Path(REPOSITORY) / "bench" / "results"
    folder.mkdir(exist_ok=True)
    versions_text = "\n".join(f"* {version}" for version in versions)
    text = (
        f"# Beside what a user would take instead, {today}\n\nInput of {size} for each job, medians.\n\n{told}\n\n"
        f"## Machine, versions, commands\n\n* Machine: {machine()}\n* Command: `{command}`\n{versions_text}\n\n```text\n"
        + "".join(f"{row.peer.label()}\n    {shown(row.peer.command, places)}\n" for row in rows)
        + "```\n"
    )
    (folder / f"{today}-peers.md").write_text(text)
    everything = {
        "date": today,
        "size": size,
        "machine": machine(),
        "command": command,
        "versions": versions,
        "rows": [
            {
                "job": row.peer.job,
                "program": row.peer.name,
                "command": shown(row.peer.command, places),
                "runs": [vars(cost) for cost in row.costs],
                "job_s": row.jobs_s,
            }
            for row in rows
        ],
    }
    (folder / f"{today}-peers.json").write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")
    print(f"kept in bench/results/{today}-peers.md and .json")
