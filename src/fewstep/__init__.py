"""fewstep: which few timesteps should a trained diffusion model be sampled at, and what does that cost?"""

from fewstep.denoiser import Denoiser
from fewstep.errors import UserError
from fewstep.find_schedule import find_schedule
from fewstep.process import Process
from fewstep.schedule import Schedule
from fewstep.search.steps_within import steps_within

__version__ = "0.1.0"
__all__ = ["Denoiser", "Process", "Schedule", "UserError", "__version__", "find_schedule", "steps_within"]
