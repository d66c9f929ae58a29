"""The programs: Quorate, and what a user would take instead, each with the settings that were fastest on two cores."""

import os
from dataclasses import dataclass

from install import HERE
from measure import CORES

# Where a JVM's heap ends, whatever the machine has.
HEAP_GIB_MAX = 8


@dataclass
class Peer:
    """A program that does one of the jobs."""

    job: str  # `word count` or `terasort`
    name: str
    needs: str  # which installer brings it
    command: list  # reads the job's input, and makes the output folder with part files

    def label(self):
        return f"{self.job}: {self.name}"


def all_peers(places):
    """All programs, in the order of the table."""
    return [
        *[quorate(places, job, f) for job in places.inputs for f in (0, 1, 2)],
        *by_hand(places),
        *gnu(places),
        renoir(places),
        *[package(places, job, name) for name in ("duckdb", "polars") for job in places.inputs],
        *spark(places),
        *hadoop(places),
    ]


def ends(places, job):
    """Where a job's input comes from, and where its output goes."""
    return [str(places.inputs[job]), str(places.output)]


def quorate(places, job, f):
    source, output = ends(places, job)
    words = ["wordcount"] if job == "word count" else ["terasort", "sort"]
    command = [places.target / "release" / words[0], *words[1:], "--input", source, "--output", output]
    return Peer(job, f"Quorate, f = {f}", "quorate", [*command, "--f", str(f), "--liar", "none"])


def by_hand(places):
    floor = str(places.rust / "release/floor")

    def peer(job, name, mode):
        return Peer(job, f"hand-written Rust, {name}", "floor", [floor, mode, *ends(places, job), str(CORES)])

    return [
        peer("word count", "tuned", "wordcount"),
        peer("word count", "plain", "wordcount-plain"),
        peer("terasort", "in memory", "terasort"),
    ]


def gnu(places):
    sort = f"LC_ALL=C sort -S 50% --parallel={CORES}"
    count = (
        r"""tr -s ' \t\n\v\f\r' '\n' < "$1" | """
        + sort
        + r""" | LC_ALL=C uniq -c | awk '{print $2 "\t" $1}' > "$2/part-00000" """
    )

    def peer(job, name, script):
        return Peer(job, name, "gnu", ["sh", "-c", f'mkdir "$2" && {script}', "sh", *ends(places, job)])

    return [
        peer("word count", "GNU tr, sort, uniq", count),
        peer("terasort", "GNU sort", f'{sort} "$1" -o "$2/part-00000"'),
    ]


def renoir(places):
    command = [places.rust / "release/renoir-wordcount", *ends(places, "word count"), str(CORES)]
    return Peer("word count", "Renoir", "renoir", command)


def package(places, job, name):
    script = HERE / "python" / f"{name}_{job.replace(' ', '')}.py"
    shown = {"duckdb": "DuckDB", "polars": "polars"}[name]
    return Peer(job, shown, name, [places.python, script, *ends(places, job), str(CORES)])


def java(places, options, main, arguments):
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    heap = max(1, min(HEAP_GIB_MAX, memory_gib // 2))
    path = f"{places.classes}:{places.jars}/*"
    return ["java", f"-Xmx{heap}g", f"@{HERE}/java/jvm.options", *options, "-cp", path, main, *arguments]


def spark(places):
    options = [
        f"-Dspark.master=local[{CORES}]",
        "-Dspark.ui.enabled=false",
        f"-Dspark.local.dir={places.work}",
        "-Dspark.serializer=org.apache.spark.serializer.KryoSerializer",
    ]

    def peer(job, main):
        arguments = [f"file://{end}" for end in ends(places, job)]
        command = java(places, options, main, [*arguments, str(2 * CORES)])
        return Peer(job, f"Spark, local[{CORES}]", "jvm", command)

    return [peer("word count", "SparkWordCount"), peer("terasort", "SparkTeraSort")]


def hadoop(places):
    settings = {
        "mapreduce.framework.name": "local",
        "mapreduce.local.map.tasks.maximum": CORES,
        "mapreduce.local.reduce.tasks.maximum": CORES,
        "mapreduce.job.reduces": max(2, CORES),
        "hadoop.tmp.dir": places.work,
        # The client asks every five seconds by default, and wall times would be rounded up to that.
        "mapreduce.client.completion.pollinterval": 50,
        "mapreduce.client.progressmonitor.pollinterval": 50,
    }

    def peer(job, main, more_settings, more_arguments):
        defined = [f"-D{name}={value}" for name, value in (settings | more_settings).items()]
        arguments = [f"file://{end}" for end in ends(places, job)]
        command = java(places, [], main, [*defined, *arguments, *more_arguments])
        return Peer(job, "Hadoop, LocalJobRunner", "jvm", command)

    return [
        # A sort buffer that fits the cache is faster than the default of 100 MiB, and larger ones are slower.
        peer("word count", "HadoopWordCount", {"mapreduce.task.io.sort.mb": 32}, []),
        peer("terasort", "HadoopTeraSort", {}, [f"file://{places.work}/ranges"]),
    ]
