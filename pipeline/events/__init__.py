"""Events of a rally: hits and bounces, found in the path of the ball alone.

    events = find_events(xy, size=(1280, 720), fps=30.0)
    rallies = find_rallies(events, fps=30.0)

Arrays in, records out: this room knows nothing of pictures, videos or tables.  Start with
`find.find_events` and `rallies.find_rallies`.  Courts and standards need no PyTorch, so nothing is
imported here.
"""
