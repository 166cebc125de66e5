"""What the server of worker processes imports first, so that it ends with the process that started it.

Once it serves, its end of a pipe tells it. But before that it imports PyTorch, which takes seconds, and looks at
nothing: then the system ends it (Linux). It is asked to no longer once there are workers, as its signal comes at the
end of the thread that started the server, which need not be that of the process.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if sys.platform == "linux" and any("multiprocessing.forkserver" in argument for argument in sys.orig_argv):
    _prctl = ctypes.CDLL(None, use_errno=True).prctl
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.register_at_fork(before=lambda: _prctl(PR_SET_PDEATHSIG, 0))
