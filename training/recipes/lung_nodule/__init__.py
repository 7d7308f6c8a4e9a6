"""Lung nodules and masses on chest CT: `python -m training.recipes.lung_nodule.STEP`."""
