"""Terasort in DuckDB's SQL: duckdb_terasort.py INPUT OUTPUT THREADS

A record is a line that ends with CR LF. DuckDB ends its lines with LF, so the CR is put back.
"""

import os
import sys

import duckdb

source, output, threads = sys.argv[1:]
os.mkdir(output)
database = duckdb.connect()
database.execute(f"SET threads = {int(threads)}")
database.execute(f"""
    COPY (
        SELECT line || chr(13) FROM read_csv('{source}', columns = {{'line': 'VARCHAR'}}, delim = '\x01', quote = '',
            escape = '', header = false, auto_detect = false, strict_mode = false, new_line = '\\r\\n')
        ORDER BY line
    ) TO '{output}/part-00000' (FORMAT csv, DELIMITER '\x01', QUOTE '', ESCAPE '', HEADER false)
""")
