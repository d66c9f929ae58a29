#!/usr/bin/env python3
"""Word count and terasort on Quorate, and on what a user would take instead, on this machine.

It installs the programs from the registries of cargo and pip into a scratch folder, makes the inputs, runs every program
as a process of its own, checks each output, and prints one table. What is absent is skipped, with the reason."""

import argparse
import os
import re
import shlex
import shutil
import signal
import sys

sys.dont_write_bytecode = True  # no folder of bytecode in the repository

import table
from install import Absent, Places, install, versions
from measure import become_reaper, busy_now, measure
from peers import all_peers
from verify import Wrong, check, expected, make_input

# A program that is slower runs once.
SLOW_S = 20
# Free space that is needed for a byte of input: f = 2 keeps three copies of input, map output and output.
SPACE = 12
UNITS = {"": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
HELP = """\
examples:
  bench/peers/run.py                                  everything with 1 GiB: 15 minutes on two cores
  bench/peers/run.py --size 100MiB --runs 1           a first look, in a few minutes
  bench/peers/run.py --only 'GNU sort|hand|Quorate'   some programs
  bench/peers/run.py --only '^terasort'               one job
  bench/peers/run.py --keep                           the table goes to bench/results, too

Let the machine be quiet: a program during which others used more than 4 % of the cores is marked. Quote ratios from one
run, as absolute times drift. Runs go through the programs downward and upward in turn; the input is in the page cache.

Needs cargo, and python3 with venv; Spark and Hadoop need a JDK. The first time, programs are fetched and built for some
minutes more. Disk: 1 GB for programs, and while f = 2 runs 12 times the size."""


def main():
    options = parse()
    size = parse_size(options.size)
    places = Places(options.scratch, size)
    peers = chosen(places, options.only)
    check_space(places, size)
    become_reaper()
    # So that the program that runs is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    absent = install(places, ["quorate", *dict.fromkeys(peer.needs for peer in peers if peer.needs != "quorate")])
    if "quorate" in absent:
        sys.exit(f"Quorate cannot be built: {absent['quorate']}")
    skipped = [(peer.label(), absent[peer.needs]) for peer in peers if peer.needs in absent]
    peers = [peer for peer in peers if peer.needs not in absent]
    try:
        must_be = make_inputs(places, size, peers)
    except (Absent, Wrong) as reason:
        sys.exit(f"there is no input: {reason}")
    rows, failed = run_all(places, peers, options.runs, must_be)
    told = "\n".join([table.markdown(rows), table.LEGEND, table.notes(rows, skipped, failed)]).rstrip()
    print(told)
    if options.keep:
        used = versions(places, {"quorate"} | {row.peer.needs for row in rows})
        table.keep(places, options.size, shlex.join(["bench/peers/run.py", *sys.argv[1:]]), used, rows, told)
    sys.exit(1 if failed else 0)


def chosen(places, only):
    """The programs that the user wants."""
    peers = all_peers(places)
    try:
        found = [peer for peer in peers if re.search(only, peer.label())]
    except re.error as error:
        sys.exit(f"--only {only!r} is no regular expression: {error}")
    if not found:
        sys.exit(f"--only {only!r} fits none of:\n" + "\n".join(peer.label() for peer in peers))
    return found


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1GiB", metavar="SIZE", help="input of each job, such as 100MiB [1GiB]")
    runs = f"runs of each program; of one that takes above {SLOW_S} s only one [3]"
    parser.add_argument("--runs", default=3, type=int, metavar="N", help=runs)
    parser.add_argument("--only", default="", metavar="REGEX", help="programs, by `job: program` as in the table")
    scratch = "programs and inputs, kept for the next time [peers-scratch in cargo's target folder]"
    parser.add_argument("--scratch", metavar="DIR", help=scratch)
    parser.add_argument("--keep", action="store_true", help="writes bench/results/DATE-peers.md and .json")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs is at least 1")
    return options


def parse_size(text):
    found = re.fullmatch(r"(\d+)\s*(|KiB|MiB|GiB)", text, re.IGNORECASE)
    size = int(found[1]) * UNITS[found[2].lower()] if found else 0
    if size < 100:
        sys.exit(f"--size {text!r}: write at least 100 bytes, such as 100MiB or 1GiB")
    return size


def check_space(places, size):
    free = shutil.disk_usage(places.scratch).free
    if free < SPACE * size:
        sys.exit(f"{places.scratch} has {free >> 20} MiB free, and {SPACE * size >> 20} MiB may be needed")


def make_inputs(places, size, peers):
    """Makes the inputs, and finds out what the outputs must be."""
    must_be = {}
    for job in dict.fromkeys(peer.job for peer in peers):
        print(f"making the input of {job}", file=sys.stderr)
        make_input(places, job, size)
        must_be[job] = expected(places, job)
    return must_be


def run_all(places, peers, runs, must_be):
    """Runs all programs in rounds. Gives the rows of the table, and which programs failed."""
    if (busy := busy_now()) > table.QUIET:
        print(f"the machine is not quiet: {busy:.0%} of its cores are in use", file=sys.stderr)
    rows = {peer.label(): table.Row(peer) for peer in peers}
    failed = {}
    for number in range(1, runs + 1):
        for peer in peers if number % 2 else reversed(peers):
            row = rows[peer.label()]
            if peer.label() in failed or (row.costs and row.costs[0].wall_s > SLOW_S):
                continue
            try:
                run_once(places, row, must_be[peer.job])
            except Wrong as wrong:
                failed[peer.label()] = str(wrong)
            last = failed.get(peer.label()) or f"{row.costs[-1].wall_s:.2f} s"
            print(f"{number}/{runs} {peer.label()}: {last}", file=sys.stderr)
    good = [row for label, row in rows.items() if label not in failed]
    return good, list(failed.items())


def run_once(places, row, must_be):
    """Runs a program once, and checks its output."""
    clear(places)
    read_once(places.inputs[row.peer.job])
    os.sync()
    name = re.sub(r"\W+", "-", row.peer.label())
    said, errors = places.log / f"{name}.out", places.log / f"{name}.err"
    with open(said, "wb") as out, open(errors, "wb") as err:
        cost = measure([str(part) for part in row.peer.command], places.work, out, err)
    if cost.status != 0:
        last = errors.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise Wrong(f"exit status {cost.status}: {last[0]} (all in {errors})")
    check(places, row.peer.job, must_be)
    clear(places)
    row.costs.append(cost)
    if row.peer.needs == "quorate":
        row.jobs_s.append(job_s(said.read_text()))


def job_s(said):
    """A job's own time, from the line of totals that its program prints."""
    found = re.search(r"^\d+ attempts? for .*, (?:(\d+) min )?([\d.]+) (ms|s)$", said, re.MULTILINE)
    if not found:
        raise Wrong("the program does not say how long its job took")
    return int(found[1] or 0) * 60 + float(found[2]) / (1000 if found[3] == "ms" else 1)


def clear(places):
    """Removes what programs leave."""
    shutil.rmtree(places.output, ignore_errors=True)
    for left in places.work.iterdir():
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()


def read_once(path):
    """Brings a file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(16 << 20):
            pass


if __name__ == "__main__":
    main()
