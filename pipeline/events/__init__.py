"""Events of a rally: hits and bounces, found in the path of the ball alone.

    events = find_events(xy, size=(1280, 720), fps=30.0)
    rallies = find_rallies(events, fps=30.0)

Arrays in, records out: this room knows nothing of pictures, videos or tables.
"""

from tracknet.pipeline.events.find import Event, find_events
from tracknet.pipeline.events.model import load_net
from tracknet.pipeline.events.rallies import Rally, find_rallies

__all__ = ["Event", "Rally", "find_events", "find_rallies", "load_net"]
