"""Pictures and videos: drawing, encoding, rendering a trajectory.

May import decoding.
"""
