"""Training: recipes that turn public data into a source folder for `compile pack`.

Rules. Nothing here runs on a device and nothing on a device imports it. Each file in `recipes/` is
one runnable training; the other modules hold what two recipes share.
"""
