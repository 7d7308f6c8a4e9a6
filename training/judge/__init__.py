"""What a network is worth: figures with their intervals. Nothing here knows a task."""
