"""Labels and metrics: what a label file says, and how a trajectory is scored against it.

May import nothing but `pipeline.errors`.
"""
