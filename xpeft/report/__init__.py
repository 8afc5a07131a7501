"""From records to what a reader sees.

`summary` merges the records of a tier and adds statistics, `figures` and `tables` draw and print
it, `html` writes the one page. Each reads files and writes files; none trains anything.
"""
