"""New releases for this box: which are taken, when, and what is trusted.

    plan         releases, facts of the box, policy -> steps, or why not  [pure]
    why          the codes of why not, each with its remedy  [pure]
    states       the states of one update, as one table  [pure]
    clock        which time it is, for what is signed with an end  [pure]
    source       bytes from a web server or from a folder (a stick), never more than were signed
    downloads    a file of the repository, fetched on from where it was broken off
    trust        the repository's metadata: verified in a copy, then adopted
    places       where all this lies on a box
    slots        an environment for each release, the links to two of them, and what is removed
    built        what has no wheel and is built on this box, and how it comes into a slot
    steps        how far the update in hand is, written down before each work
    units        stages of a slot that are started and stopped: systemd's, or of `scanside run`
    facts        what `apply` tells `update`, and `update` tells `apply`
    fetch        one look at the repository: asked, planned, fetched, laid down
    stage        the stage `update`, which does that by its timer or when it is asked
    guard        what mends a box when the appliance cannot, outside of the slots

The stage `apply` (appliance/apply) decides by this, and alone changes what runs. Without [update]
root neither stage runs, and without [update] url nothing is asked of anybody.
"""
