"""The commands, one file per group; the only layer that knows Click.

Heavy imports stand inside the commands, so that `--help` answers at once.  Results go to standard
output, progress and messages to standard error.
"""
