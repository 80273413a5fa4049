"""Statistics of paired scores: numbers in, numbers out, the random generator passed in.

`paired` compares two arms on the same rows, `clustered` on rows that come in groups, `multiple` adjusts for several
metrics, `power` says what a number of rows can show, and `bounded` holds what graded differences have in common.

Of judges: `agreement` with people, with an interval from `estimate`; `bias`, where a judge leans; `ppi`, few labels of
people that correct many scores of a judge.
"""
