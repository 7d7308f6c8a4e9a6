"""Pneumonia on a child's chest radiograph: `python -m training.recipes.chest_pneumonia.STEP`."""
