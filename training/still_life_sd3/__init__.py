"""The still-life model in Stable Diffusion 3's layout: `python -m training.still_life_sd3 assemble FOLDER`.

What differs from the still-life model is kept here: a transformer that was trained by rectified flow. The second text
encoder is that of the model in SDXL's layout, and the rest the still-life model's own.
"""

from __future__ import annotations
