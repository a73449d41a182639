"""What a run of a network needs of memory, and whether there is so much."""

import os
from itertools import count
from pathlib import Path
from typing import NamedTuple

_QUOTA = Path("/sys/fs/cgroup/memory.max")


class MemoryPlan(NamedTuple):
    """Bytes of the arrays of a run, known before it; as a str, a table.

    Attributes
    ----------
    batch_size : int
    parameters, gradients : int
        Buffers, as those of batch normalisation, included.
    state : int
        The optimizer's; without one, packed weights.
    activations : int
        Values inside the network and their gradients, at their peak: those that
        are never needed at once share memory.
    scratch : int
        Working memory of the operators.
    arrays : int
        Inputs, targets, outputs.
    recomputed : int
        Operators of the forward pass that backward runs once more.
    """

    batch_size: int
    parameters: int
    gradients: int
    state: int
    activations: int
    scratch: int
    arrays: int
    recomputed: int

    @property
    def peak(self):
        """All bytes together."""
        return sum(self[1:-1])

    def as_dict(self):
        """The same as JSON values, with the peak."""
        return self._asdict() | {"peak": self.peak}

    def __str__(self):
        names = self._fields[1:-1]
        rows = [(name, getattr(self, name)) for name in names]
        rows.append(("peak", self.peak))
        lines = [f"{name:12}{size / 1e6:12,.1f} MB" for name, size in rows]
        if self.recomputed:
            lines.append(f"{self.recomputed} operators computed again in backward")
        return "\n".join(lines)


def fitting_plan(make, threads, limit=None):
    """The first plan that fits into the memory, from the fastest to the smallest.

    Parameters
    ----------
    make : function (thrift) -> Plan
        Raises StopIteration where there is no more to save.
    threads : int
    limit : int, optional
        Most bytes of the arrays of a run. Default: those of the machine, and
        nothing is computed twice.

    Raises
    ------
    MemoryError
        When none fits.
    """
    smallest, most = None, machine_bytes() if limit is None else limit
    for thrift in count():
        try:
            plan = make(thrift)
        except StopIteration:
            break
        needed = sum(plan.memory_bytes(threads).values())
        if needed <= most:
            return plan
        smallest = min(needed, smallest or needed)
        if limit is None:
            break
    there, hint = "there are", "; a memory_limit trades time for memory"
    if limit is not None:
        there, hint = "memory_limit is", " when values are computed again"
    raise MemoryError(
        f"the arrays of this batch need {smallest / 1e6:,.1f} MB{hint}, {there} "
        f"{most / 1e6:,.1f} MB: use smaller batches"
    )


def machine_bytes():
    """Memory that this process may have at most."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    quota = _QUOTA.read_text().strip() if _QUOTA.exists() else "max"
    return min(physical, int(quota)) if quota.isdigit() else physical
