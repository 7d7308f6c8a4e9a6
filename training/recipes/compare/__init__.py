"""The task of comparing two exams: the network that lays one chest CT over another."""
