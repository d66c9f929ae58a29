"""Terasort on polars' streaming engine: polars_terasort.py INPUT OUTPUT THREADS

A record is a line that ends with CR LF, which polars takes away and puts back.
"""

import os
import sys

source, output, threads = sys.argv[1:]
os.environ["POLARS_MAX_THREADS"] = threads
os.mkdir(output)
import polars as pl

lines = pl.scan_csv(source, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String})
ordered = lines.sort("line")
ordered.sink_csv(f"{output}/part-00000", include_header=False, separator="\x01", line_terminator="\r\n",
                 quote_style="never", engine="streaming")
