"""What a device knows before its first update: factory bundles and their digests.

    bundles/<name>.scanside   the bundles, as `compile pack` wrote them
    digests.json              {name: {version, digest}}: why they are trusted without a signature

`python -m compile factory BUNDLE...` puts both here.
"""
