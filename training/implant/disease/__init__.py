"""Disease painted into real chest CTs, with exact masks: all that is no nodule and no mass."""
