"""Pictures and videos for people: drawing, encoding, rendering a trajectory.

May import decoding.
"""
