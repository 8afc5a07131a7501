"""Data: task specs, the sources that rows come from, and the prepared files that training reads.

`specs` says what a task is, `sources` reads its rows (hub, local folder, embedded generator),
`prepare` checks them and writes a prepared folder, `prepared` reads that folder back. Training
needs `prepared` alone, and so only numpy and pyarrow.
"""
