"""What a two-tower model has to beat: each baseline ranks a task's requests, and sees no target."""
