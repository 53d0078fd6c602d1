"""The contract with readers of the tables: schemas, the results folder, atomic writes.

May import pyarrow and the standard library only.
"""
