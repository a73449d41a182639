"""Windows as ONNX writes them: kernel, strides, dilations, pads and auto_pad."""


class Window:
    """Attributes of convolutions and pools, one entry per axis.

    Attributes
    ----------
    kernel, stride, dilation : tuple of int
    padding : tuple of (before, after)
    """

    def __init__(self, size, kernel, auto_pad, pads, strides, dilations):
        axes = len(size)
        self.kernel = tuple(kernel)
        self.stride = tuple(strides or (1,) * axes)
        self.dilation = tuple(dilations or (1,) * axes)
        given = (self.kernel, self.stride, self.dilation)
        if any(len(entries) != axes for entries in given):
            raise ValueError(
                f"kernel {self.kernel}, strides {self.stride} and dilations "
                f"{self.dilation} must have an entry for each of {axes} axes"
            )
        self.padding = self._padding(size, auto_pad, pads)

    def _padding(self, size, auto_pad, pads):
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            totals = (
                max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
                for n, k, s, d in zip(
                    size, self.kernel, self.stride, self.dilation, strict=True
                )
            )
            return tuple(split(total, auto_pad) for total in totals)
        if auto_pad not in ("NOTSET", "VALID", ""):
            raise ValueError(f"auto_pad {auto_pad!r} is unknown")
        return pairs(pads if auto_pad != "VALID" else None, len(size))

    @property
    def extent(self):
        """How many elements a window reaches over."""
        return tuple(
            d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True)
        )


def split(total, auto_pad):
    """Padding before and after; of an odd number one more after for SAME_UPPER."""
    less, more = total // 2, total - total // 2
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


def pairs(pads, axes):
    """(before, after) per axis of ONNX's list of all befores, then all afters."""
    pads = tuple(pads or (0,) * 2 * axes)
    if len(pads) != 2 * axes:
        raise ValueError(f"pads {pads} must have two entries for each of {axes} axes")
    return tuple(zip(pads[:axes], pads[axes:], strict=True))
