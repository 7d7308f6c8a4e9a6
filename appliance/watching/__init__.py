"""What the box knows of its own inputs, as it is kept and told. Pure records.

quality   what was measured of one series: of a volume, or of radiographs
scanner   whose images they are: the key of a row of the library
alarm     what changed, since when, and why it may have
probe     how many implants are found on a scanner (appliance/probe)
proposal  a tuning that finds more of them

They are made in appliance/quality, kept beside a report (store/kept), in the library of scanners
(store/library) and in probe/ (appliance/probe). None of them goes out over MQTT, but for what
results/device.py names.
"""
