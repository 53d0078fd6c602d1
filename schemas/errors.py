"""Errors of the tables.

StoreError             catch this to catch all of them
├── TableError         a file is no table of the expected schema, or damaged
├── MixedResults       the folder holds rows made with other weights or settings
├── ForeignFolder      the folder holds files of somebody else where results would be
├── NotWritable        a file of the folder cannot be written
└── Locked             another run is writing to the folder
"""


class StoreError(Exception):
    """Base of what can be wrong with an output folder."""


class TableError(StoreError):
    """A file is no table of the expected schema; says which file, which field, what to do."""


class MixedResults(StoreError):
    """The folder holds rows that were made with other weights or settings."""


class ForeignFolder(StoreError):
    """The folder has no marker of ours, but files that results would replace."""


class NotWritable(StoreError):
    """A file cannot be written: no permission, no room, no such disk."""


class Locked(StoreError):
    """Another run is writing to the folder."""
