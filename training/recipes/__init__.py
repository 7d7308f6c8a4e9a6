"""A folder a task, a runnable file a step: `python -m training.recipes.TASK.STEP [--knob VALUE]`.

Rules. No task imports another. `bundle` says what a task's bundle is, `stages` in which order its
steps run; `training.run` has a row for each.
"""
