"""Exact pairs: two exams of one chest, made from one CT, and the field between them."""
