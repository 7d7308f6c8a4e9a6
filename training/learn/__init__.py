"""The training loop and what it is made of. Nothing here knows a task."""
