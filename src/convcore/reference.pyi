# The module is filled at run time; its functions have the signatures of these.
from .functional import *  # noqa: F403
