"""One runnable file a recipe: `python -m training.recipes.<task>_<step> [--knob value ...]`."""
