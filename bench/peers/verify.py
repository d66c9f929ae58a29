"""What the outputs must be: found out once for an input, by other means than those measured.

Word count: the digest of all lines, sorted. Terasort: the number of records, the sum of their CRC-32, and their order."""

import hashlib
import json
import re
import subprocess
from collections import Counter
from pathlib import Path

from install import run

BLOCK_BYTES = 16 << 20


class Wrong(Exception):
    """An output is not what it must be."""


def make_input(places, job, size):
    """Makes a job's input, unless an earlier run did."""
    path = places.inputs[job]
    if path.exists():
        return
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    if job == "word count":
        command = [places.target / "release/zipf-text", str(size), partial]
    else:
        command = [places.target / "release/terasort", "gen", str(size // 100), partial, "--layout", "ascii"]
    run(command)
    partial.rename(path)


def expected(places, job):
    """What the output for this input must be."""
    path = places.inputs[job]
    known = path.with_suffix(".expected")
    if not known.exists():
        found = count_words(path) if job == "word count" else records(places, path)["sum"]
        known.write_text(json.dumps(found))
    return json.loads(known.read_text())


def check(places, job, must_be):
    """Checks what a program made."""
    if job == "word count":
        found = lines_digest(line for part in parts(places.output) for line in part.read_bytes().splitlines())
    else:
        result = records(places, places.output)
        if not result["sorted"]:
            raise Wrong(f"the output is not sorted: {result['said']}")
        found = result["sum"]
    if found != must_be:
        raise Wrong(f"the output is {found}, and should be {must_be}")


def count_words(path):
    """Counts the words of a text in Python, slowly."""
    counts, rest = Counter(), b""
    with open(path, "rb") as text:
        while block := text.read(BLOCK_BYTES):
            block = rest + block
            end = max(block.rfind(b" "), block.rfind(b"\n")) + 1
            counts.update(block[:end].split())
            rest = block[end:]
    counts.update(rest.split())
    return lines_digest(b"%s\t%d" % pair for pair in counts.items())


def lines_digest(lines):
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(line + b"\n")
    return digest.hexdigest()


def parts(folder):
    found = sorted(Path(folder).glob("part-*"))
    if not found:
        raise Wrong("there is no output")
    return found


def records(places, path):
    """What the sort benchmark's checker says about records."""
    said = subprocess.run([places.target / "release/terasort", "validate", path], capture_output=True, text=True)
    found = re.match(r"(\d+ records, checksum [0-9a-f]+),", said.stdout)
    if not found:
        raise Wrong(f"the records cannot be checked: {said.stderr.strip()}")
    return {"sum": found[1], "sorted": said.returncode == 0, "said": said.stderr.strip()}
