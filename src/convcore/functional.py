"""Every public function on arrays and traced values, collected from `ops`."""

# By family, so that editors and type checkers see the names.
from .ops.add import *  # noqa: F403
from .ops.cat import *  # noqa: F403
from .ops.conv import *  # noqa: F403
from .ops.flatten import *  # noqa: F403
from .ops.linear import *  # noqa: F403
from .ops.loss import *  # noqa: F403
from .ops.pool import *  # noqa: F403
from .ops.relu import *  # noqa: F403
