"""Files of tensors: safetensors, with JSON in the metadata."""

import json
import os
from pathlib import Path

import numpy as np


def write(path, tensors, metadata):
    """Write a file, or leave the old one as it is.

    Parameters
    ----------
    path : str or Path
    tensors : dict of str -> ndarray
    metadata : dict of str -> JSON value
    """
    from safetensors.numpy import save

    path = Path(path)
    data = save(
        {name: np.asarray(x, order="C") for name, x in tensors.items()},
        {key: json.dumps(value) for key, value in metadata.items()},
    )
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path):
    """The (tensors, metadata) that `write` wrote.

    Raises
    ------
    ValueError
        When the file is not one of these.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, {key: json.loads(text) for key, text in metadata.items()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a file that convcore wrote: {error}") from None
