"""From a shop's files to what the towers see.

dataset, check: a dataset directory and what is wrong with it; complete_journey: real data to start with.
settings, features: declared features, and their names and shapes in training and serving.
interaction_gen: joins, point-in-time history; preprocessing: tokens, indices, buckets; schema: what may be.
"""
