"""What is said of an exam while the patient is still there: the in-room check. Pure.

codes     the flags, each with what to do
check     values -> flags -> verdict, as they are kept beside a report and sent
sentence  the line of text over the page, in the reader's language
"""
