"""What is timed and compared: one script a question."""
