"""The numbers of the rig of 16 views that every engine, option and row speaks of.

It knows no matrices (`pipeline.geometry.cameras` makes them) and nothing about images.
"""

from __future__ import annotations

# Read from the camera file released with SyncDreamer (arXiv 2309.03453): 16 cameras at one
# elevation and radius, 22.5 degrees apart, focal length 280 px for a 256 px image.
VIEW_COUNT = 16
VIEW_SIZE = 256
ELEVATION_DEG = 30.0
RADIUS = 1.5
FOCAL_AT_256 = 280.0

#: Views of the rig the optimiser never sees: rear left and rear right, where a single photo is
#: most a guess. Scores come only from these.
HELD_OUT_VIEWS = (5, 11)
