"""What mends a box when the appliance cannot: it lies outside of the slots, in ROOT/guard.

    build   makes a slot of the wheels that are kept, with the Python that runs it

Nothing here needs a library, nor the rest of the appliance: it runs where neither can be imported.
"""
