"""Word count in DuckDB's SQL: duckdb_wordcount.py INPUT OUTPUT THREADS

Lines are read as a table of one column: no byte of the text is the separator, none a quote.
"""

import os
import sys

import duckdb

source, output, threads = sys.argv[1:]
os.mkdir(output)
database = duckdb.connect()
database.execute(f"SET threads = {int(threads)}")
database.execute("SET preserve_insertion_order = false")
database.execute(f"""
    COPY (
        SELECT word, count(*) FROM (
            SELECT unnest(string_split(line, ' ')) AS word
            FROM read_csv('{source}', columns = {{'line': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '',
                          header = false, auto_detect = false, strict_mode = false))
        WHERE word <> '' GROUP BY word ORDER BY word
    ) TO '{output}/part-00000' (FORMAT csv, DELIMITER '\t', QUOTE '', ESCAPE '', HEADER false)
""")
