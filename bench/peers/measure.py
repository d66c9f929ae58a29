"""What a command costs: wall time, CPU time and peak memory, of it and of all that it starts."""

import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

# A command that takes longer hangs.
LIMIT_S = 3600
PR_SET_CHILD_SUBREAPER = 36
CORES = len(os.sched_getaffinity(0))


@dataclass
class Cost:
    """One run of a command."""

    wall_s: float
    cpu_s: float
    peak_mib: float  # of the largest process, with the pages of files that it mapped; at least this one's own
    others: float  # share of all cores that was used by anybody else meanwhile
    status: int  # exit status, negative for a signal


def become_reaper():
    """Lets this process inherit orphans, so that the cost of a process whose parent has ended is not lost."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def measure(command, folder, output, errors):
    """Runs a command until it and all that it started have ended. The wall time ends with the command itself. What it keeps
    for itself meanwhile goes to a folder."""
    busy, own, begun = busy_s(), own_s(), time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder)},
        start_new_session=True,
    )
    limit = threading.Timer(LIMIT_S, kill, [process.pid])
    limit.start()
    try:
        cost = reap(process, begun)
    except BaseException:
        kill(process.pid)
        raise
    finally:
        limit.cancel()
    all_s = time.monotonic() - begun
    others = busy_s() - busy - cost.cpu_s - (own_s() - own)
    cost.others = round(max(0.0, others) / (all_s * os.cpu_count()), 4)
    return cost


def reap(process, begun):
    """Waits for every child: by the kernel's account each brings the time of its own children with it."""
    cost = Cost(wall_s=0.0, cpu_s=0.0, peak_mib=0.0, others=0.0, status=0)
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return cost
        if pid == process.pid:
            cost.wall_s = round(time.monotonic() - begun, 4)
            cost.status = process.returncode = os.waitstatus_to_exitcode(status)
        cost.cpu_s = round(cost.cpu_s + usage.ru_utime + usage.ru_stime, 4)
        cost.peak_mib = max(cost.peak_mib, round(usage.ru_maxrss / 1024, 1))


def kill(leader):
    """Kills a command with the processes that it started."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def busy_s():
    """Seconds that all cores of the machine were busy so far."""
    with open("/proc/stat") as stat:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def own_s():
    """CPU seconds of this process alone."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def busy_now(seconds=2.0):
    """Share of all cores that somebody uses now, while this process waits."""
    before = busy_s()
    time.sleep(seconds)
    return (busy_s() - before) / (seconds * os.cpu_count())
