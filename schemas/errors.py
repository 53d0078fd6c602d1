"""Errors of the tables.

StoreError             catch this to catch all of them
├── TableError         a file is no table of the expected schema
├── MixedResults       the folder holds rows made with other weights or settings
└── Locked             another run is writing to the folder
"""


class StoreError(Exception):
    """Base of what can be wrong with an output folder."""


class TableError(StoreError):
    """A file is no table of the expected schema; says which file, which field, what to do."""


class MixedResults(StoreError):
    """The folder holds rows that were made with other weights or settings."""


class Locked(StoreError):
    """Another run is writing to the folder."""
