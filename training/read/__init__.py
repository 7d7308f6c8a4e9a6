"""Readers of public data: scans, images, tables, and whose they are. Nothing here knows a task."""
