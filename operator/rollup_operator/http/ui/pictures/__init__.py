"""Pictures of a job as SVG: its data over time, its source's period, its runs.

Pure functions that return markup with every text escaped. A picture has no style of its own: static/pictures.css
colours its classes, in the light and in the dark. What stretches with the window is drawn in an inner `<svg>` of free
proportions; texts are placed by percent outside of it, so that they keep their size on a phone.
"""
