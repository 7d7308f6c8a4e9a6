"""The child of `work` that keeps entries of exams and compares an exam with earlier ones."""
