"""Whether what is committed still says what it said.

`values` compares what was computed with what is expected, `drawn` takes the data out of a figure,
`expected` computes all that follows from the records of a tier, `inputs` hashes what the records
were made from, `checks` puts them together. Nothing here trains, and all but two of the inputs
(encoder and banks) are checked without torch.
"""
