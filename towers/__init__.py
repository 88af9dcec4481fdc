"""The two towers: encoder, query tower, item tower, loss, warm start and the trainer's entry."""
