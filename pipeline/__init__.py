"""The science: from video to trajectories, scores and trained weights, one room per subject.

This floor knows nothing of Ray, of Parquet or of the command line.  Open the rooms in the order in
which the data flows: decoding, models, runtimes, tracking, scoring, datasets, training, pictures,
synth.
"""
