"""New releases for this box: which are taken, when, and what is trusted. Nothing here runs yet.

    plan         releases, facts of the box, policy -> steps, or why not  [pure]
    why          the codes of why not, each with its remedy  [pure]
    states       the states of one update, as one table  [pure]
    clock        which time it is, for what is signed with an end  [pure]
    source       bytes from a web server or from a folder (a stick), never more than were signed
    downloads    a file of the repository, fetched on from where it was broken off
    trust        the repository's metadata: verified in a copy, then adopted
    places       where all this lies on a box
    slots        an environment for each release, the links to two of them, and what is removed
    steps        how far the update in hand is, written down before each work
    guard        what mends a box when the appliance cannot, outside of the slots

The verbs `scanside update check|now|status|hold|release|accept|rollback` will call this, and after
them the units `update` and `apply`. Until they are built no part of the product imports it, and a
section [update] in the settings asks nothing of anybody.
"""
