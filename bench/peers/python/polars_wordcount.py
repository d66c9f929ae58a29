"""Word count on polars' streaming engine: polars_wordcount.py INPUT OUTPUT THREADS

Lines are read as a table of one column: no byte of the text is the separator, none a quote.
"""

import os
import sys

source, output, threads = sys.argv[1:]
os.environ["POLARS_MAX_THREADS"] = threads
os.mkdir(output)
import polars as pl

lines = pl.scan_csv(source, has_header=False, separator="\x01", quote_char=None, schema={"line": pl.String})
words = lines.select(pl.col("line").str.split(" ").alias("word")).explode("word").filter(pl.col("word") != "")
counts = words.group_by("word").agg(pl.len()).sort("word")
counts.sink_csv(f"{output}/part-00000", include_header=False, separator="\t", quote_style="never", engine="streaming")
