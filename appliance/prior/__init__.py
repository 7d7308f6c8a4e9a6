"""What is kept of an exam so that a later one can be compared with it, and the steps of comparing:
the place of one exam in the other, whose exams they are, which findings are the same, what changed.
Pure.
"""
