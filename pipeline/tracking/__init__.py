"""From heatmaps to one ball per frame: windows, repeated frames, peaks, linking.

May import nothing but `pipeline.errors` and `pipeline.spec`; heatmaps come in as arrays.  Read
`windows`, `engine`, `peaks`, `link` in this order.
"""
