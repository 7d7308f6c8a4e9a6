"""`make demo-update`: a repository, a box, and what releases do to it, on this machine.

    versions     wheels of later versions of this checkout, a bad one among them
    repository   the people, their keys and the repository, by the verbs of docs/keys.md
box          an installed box under `scanside run`, with a scanner that never pauses
show         the run itself, and its table

Everything is real: the wheels are installed by pip into slots, the stages are processes, and the
bad release is bad. Nothing leaves this machine but the wheels that are fetched once.
"""
