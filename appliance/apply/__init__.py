"""`apply`: what alone changes this box, and has no network for it.

box          what it acts through: slots, units, shelf, proof, journal, clocks
notes        what it writes down for itself: wishes, the release in hand, what was done
course       one release from what was fetched to what runs, or back: one step a turn
slotting     to which slot a way back leads
switching    the links, the units and the trial, in an order that a power cut leaves whole
building     what has no wheel is built on this box, by `prove`
making_room  a proof where memory holds one bundle only
guarding     the files of `guard`, outside of the slots, after a confirm
supply       blobs -> verified copies -> wheels and bundles
journals     the journal of the stages, opened without following a link
sweeping     more than `update` may lay down goes
interlock    whether a study is under way, by the journal
by_hand      bundles that a person brings
decided      what a person decides of an alarm of a scanner
requests     what may be asked of it, and what it answers
hinted       what came over MQTT: a look, or a hold
door         the socket on which it is asked, and by whom
stage        the process
"""
