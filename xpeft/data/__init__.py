"""Data: specs, the sources that rows come from, and the prepared files that training reads.

A task: `specs` says what it is, `sources` reads its rows (hub, local folder, embedded generator),
`prepare` checks them and writes a prepared folder, `prepared` reads that folder back.

A cohort, hundreds of profiles of one task: `cohort_specs` says what it is, `cohort_readers`, `lamp`
and `embedded_authors` read or generate its judgements, `sheet` divides the profiles into folds of
targets and donors, `cohort_prepare` writes a prepared folder, `cohort` reads that folder back.

Training needs `prepared` and `cohort` alone, and so only numpy and pyarrow.
"""
