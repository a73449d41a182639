"""Every public function on arrays and traced values, collected from `ops`."""

# By family, so that editors and type checkers see the names.
from .ops.adaptive_avg_pool import *  # noqa: F403
from .ops.adaptive_pool import *  # noqa: F403
from .ops.arithmetic import *  # noqa: F403
from .ops.batch_norm import *  # noqa: F403
from .ops.cat import *  # noqa: F403
from .ops.conv import *  # noqa: F403
from .ops.conv_transpose import *  # noqa: F403
from .ops.dropout import *  # noqa: F403
from .ops.elementwise import *  # noqa: F403
from .ops.embedding import *  # noqa: F403
from .ops.flatten import *  # noqa: F403
from .ops.interpolate import *  # noqa: F403
from .ops.linear import *  # noqa: F403
from .ops.local_response_norm import *  # noqa: F403
from .ops.loss import *  # noqa: F403
from .ops.losses import *  # noqa: F403
from .ops.lp_pool import *  # noqa: F403
from .ops.matmul import *  # noqa: F403
from .ops.normalize import *  # noqa: F403
from .ops.padding import *  # noqa: F403
from .ops.pool import *  # noqa: F403
from .ops.prelu import *  # noqa: F403
from .ops.rearrange import *  # noqa: F403
from .ops.reduce import *  # noqa: F403
from .ops.relu import *  # noqa: F403
from .ops.slices import *  # noqa: F403
from .ops.softmax import *  # noqa: F403
from .ops.unpool import *  # noqa: F403
