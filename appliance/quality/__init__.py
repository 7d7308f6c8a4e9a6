"""What the images of a series are worth, before anybody looks for findings in them. Pure.

    plane (while it arrives) -> SliceFacts            slices
    stack, lungs             -> RoomValues            series (blocks, body, noise, sharpness,
                                                      hounsfield, steps, contrast, lungs)
    slices                   -> VolumeQuality         series, with or without lungs
    radiograph               -> RadiographQuality     radiograph
    Result                   -> RoomCheck             verdict
    Result                   -> SeriesQuality         summary (scanner: whose images they are)

Rules.
1. What needs pixels of one slice is taken while it arrives: of each, on cells of about 3 mm; of
   some, chosen by their place alone, on blocks at fixed places. After the last slice only numbers
   are left, and the blood in a few slices.
2. Each value has a unit, a rule and a source, written where it is made. What cannot be had is None,
   never 0. The order in which slices arrive changes nothing.
3. Nothing here changes a report.
"""
