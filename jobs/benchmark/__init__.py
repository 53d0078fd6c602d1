"""The stopwatch: single stages, the whole, the reference loop, growth with the archive's size.

May import `jobs`, `pipeline` and `schemas`.  Start with `run.benchmark`.
"""
