"""Cohorts: several trials of a study as one of Ray Tune's.

The searcher proposes trials that differ in numbers only, the worker trains them as one program,
and the scheduler decides about each of them by itself.
"""
