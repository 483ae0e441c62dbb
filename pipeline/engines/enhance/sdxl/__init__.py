"""Detail from a diffusion model: SDXL-Lightning held to the rendered depth by a ControlNet.

It does not know the loop that calls it, nor how the weights came into their folders.
"""

from pipeline.engines.enhance.sdxl.sdxl_enhancer import SdxlEnhancer
from pipeline.engines.enhance.sdxl.sdxl_options import DEFAULT_PROMPT, SdxlFolders, SdxlOptions

__all__ = ["DEFAULT_PROMPT", "SdxlEnhancer", "SdxlFolders", "SdxlOptions"]
