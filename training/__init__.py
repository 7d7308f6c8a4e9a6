"""Training: recipes that turn public data into a source folder for `compile pack`.

Rules. Nothing here runs on a device and nothing on a device imports it. What belongs to one task
lies in its folder under `recipes`; the other folders know no task.
"""
