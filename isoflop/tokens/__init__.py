"""From audio and text to token shards, and from shards to training batches.

::

    sources ──> audio ──> preparation ──> encoding (codecs) ──┐
       └──────> tokenizers ───────────────────────────────────┴──> stream ──> shard_files ──> shards
    tokenization: that whole way, by a job whose shards any number of workers make, killed or not

    shards ──> reading ──> mixture (turns of the sources, a permutation of each) ──> training
       ├────> facts: what a plan needs to know
       └────> listening: the way back, to a wave

    embedded: a corpus that is made on the spot, of prose that is spoken (prose, speech, units)

Importing this loads nothing; audio libraries, codecs and the voice are imported where they are used.
"""
