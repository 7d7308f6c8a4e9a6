"""The child of `work` that looks how many implants are found on a scanner, while nothing else is to
be done."""
