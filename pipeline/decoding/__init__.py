"""From files to pictures: probing, the decoder process that can be killed, background pictures.

May import nothing but `pipeline.errors`.  Start with `decoder.Decoder`.
"""
