"""Lesions of known place and size, put into real chest CTs."""
