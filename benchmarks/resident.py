"""Print the peak resident memory, in MB, of a process that runs a network.

`python -m benchmarks.resident SIDE FOLDER C H W`, with the files of
`runtimes.write` in the folder.
"""

import sys
from pathlib import Path

import numpy as np

from .runtimes import makers


def peak():
    """In MB, since the process began; not that of the one it was forked from."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main(name, folder, *shape):
    x = np.zeros((1, *map(int, shape)), np.float32)
    call = makers()[name](1).load(Path(folder), x)
    for _ in range(10):
        call()
    print(peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
