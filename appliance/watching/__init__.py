"""What the box knows of its own inputs, as it is kept and told. Pure records.

quality   what was measured of one series: of a volume, or of radiographs
scanner   whose images they are: the key of a row of the library
alarm     what changed, since when, and why it may have

They are made in appliance/quality, kept beside a report (store/kept) and in the library of scanners
(store/library). None of them goes out over MQTT, but for what results/device.py names.
"""
