"""Gets what the programs need, from the registries of cargo and pip, into the scratch folder. What cannot be had is
absent, with the reason."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PACKAGES = {"duckdb": "2.0.0", "polars": "2.1.0", "pyspark": "4.3.0"}


class Absent(Exception):
    """Something cannot be had; the text says why."""


class Places:
    """Where everything is."""

    def __init__(self, scratch, size):
        self.target = target_folder(REPOSITORY)
        self.scratch = Path(scratch) if scratch else self.target / "peers-scratch"
        self.scratch = self.scratch.resolve()
        if not re.fullmatch(r"[\w/.+-]+", str(self.scratch)):
            sys.exit(f"--scratch {self.scratch}: not all programs can name such a folder in their commands")
        self.rust = self.scratch / "target"
        # Named after its Python, so that another one makes its own.
        self.venv = self.scratch / f"venv-{sys.version_info.major}.{sys.version_info.minor}"
        self.python = self.venv / "bin" / "python"
        # Spark's jars, which Hadoop's are among.
        self.jars = self.venv / "lib" / self.venv.name.replace("venv-", "python") / "site-packages/pyspark/jars"
        self.classes = self.scratch / "classes"
        self.log = self.scratch / "log"
        self.work = self.scratch / "work"
        self.output = self.scratch / "output"
        self.inputs = {
            "word count": self.scratch / f"text-{size}",
            "terasort": self.scratch / f"records-{size}",
        }
        for folder in [self.scratch, self.classes, self.log, self.work]:
            folder.mkdir(parents=True, exist_ok=True)


def target_folder(repository):
    """Where cargo builds."""
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    said = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if said.returncode != 0:
        sys.exit(f"cargo is needed, and `{' '.join(command)}` failed: {last_line(said.stderr)}")
    return Path(json.loads(said.stdout)["target_directory"])


def install(places, needed):
    """Installs what is needed. Gives the reasons why something is absent, by what it is."""
    absent = {}
    for what in needed:
        print(f"installing {what}", file=sys.stderr)
        try:
            INSTALLERS[what](places)
        except Absent as reason:
            absent[what] = str(reason)
    return absent


def install_quorate(_):
    programs = ["--bin", "wordcount", "--bin", "terasort", "--bin", "zipf-text"]
    build(REPOSITORY, ["-p", "quorate-examples", "-p", "quorate-bench", *programs])


def install_floor(places):
    build(HERE, ["-p", "floor", "--target-dir", places.rust])


def install_renoir(places):
    build(HERE, ["-p", "renoir-wordcount", "--target-dir", places.rust])


def install_gnu(_):
    for program in ["sort", "tr", "uniq", "awk"]:
        if not shutil.which(program):
            raise Absent(f"there is no {program}")
    if "GNU" not in first_line(["sort", "--version"]):
        raise Absent("sort is not GNU's")


def install_package(package):
    def install_one(places):
        if not places.python.exists():
            run([sys.executable, "-m", "venv", places.venv])
        wanted = f"{package}=={PACKAGES[package]}"
        run([places.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted])

    return install_one


def install_jvm(places):
    for program in ["java", "javac"]:
        if not shutil.which(program):
            raise Absent(f"there is no {program}: install a JDK of version 17 or above (apt: openjdk-17-jdk-headless)")
    install_package("pyspark")(places)
    sources = sorted((HERE / "java").glob("*.java"))
    run(["javac", "-proc:none", "-cp", f"{places.jars}/*", "-d", places.classes, *sources])
    shutil.copy(HERE / "java" / "log4j2.properties", places.classes)


INSTALLERS = {
    "quorate": install_quorate,
    "floor": install_floor,
    "renoir": install_renoir,
    "gnu": install_gnu,
    "duckdb": install_package("duckdb"),
    "polars": install_package("polars"),
    "jvm": install_jvm,
}


def build(folder, arguments):
    run(["cargo", "build", "--release", "--locked", *arguments], folder)


def run(command, folder=HERE):
    """Runs a command of an installation; its failure is a reason."""
    command = [str(part) for part in command]
    try:
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except OSError as error:
        raise Absent(f"cannot run {command[0]}: {error.strerror}") from error
    if said.returncode != 0:
        raise Absent(f"`{' '.join(command[:4])} …` failed: {last_line(said.stderr)}")


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"


def first_line(command):
    """The first line that a command prints, on whichever stream."""
    try:
        said = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    except OSError:
        return "unknown"
    lines = (said.stdout + said.stderr).splitlines()
    return lines[0].strip() if lines else "unknown"


def versions(places, needed):
    """Versions of what was used."""
    lock = (HERE / "Cargo.lock").read_text()
    revision, rustc = first_line(["git", "describe", "--always", "--dirty"]), first_line(["rustc", "--version"])
    found = {
        "quorate": f"Quorate {revision}, {rustc}",
        "gnu": first_line(["sort", "--version"]),
        "floor": f"hand-written Rust with rayon {locked(lock, 'rayon')}",
        "renoir": f"Renoir {locked(lock, 'renoir')}",
        "duckdb": f"DuckDB {PACKAGES['duckdb']}",
        "polars": f"polars {PACKAGES['polars']}",
    }
    if "jvm" in needed:
        hadoop = re.search(r"hadoop-client-api-([0-9.]+)\.jar", " ".join(path.name for path in places.jars.glob("*")))
        hadoop = hadoop[1] if hadoop else "unknown"
        found["jvm"] = f"Spark {PACKAGES['pyspark']}, Hadoop {hadoop}, {first_line(['java', '-version'])}"
    return [found[what] for what in found if what in needed]


def locked(lock, name):
    """The version of a crate in the lock file."""
    found = re.search(rf'name = "{name}"\nversion = "([^"]+)"', lock)
    return found[1] if found else "unknown"
