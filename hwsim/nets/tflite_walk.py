"""What the rules of TFLite's operators share: the walk over a file's operators, and what stops one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hwsim.nets.draft import Draft, Shape4, Sketch
from hwsim.nets.onnx_safety import LARGEST_DIM, quote
from hwsim.nets.tflite_read import TfModel, TfOp, TfTensor


class Problem(Exception):
    """What is wrong with an operator: the file cannot be used."""


class Unpriced(Exception):
    """Why an operator has no price: it becomes a layer without cost."""


@dataclass(slots=True, kw_only=True)
class Walk:
    """Where the import stands: names of what is computed so far by the file's numbers, and constants made on the way."""

    model: TfModel
    sketch: Sketch
    held: dict[int, str] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)

    def tensor(self, index: int) -> TfTensor:
        """Return a tensor of the file."""
        return self.model.tensors[index]

    def act(self, op: TfOp, place: int) -> str:
        """Return the name of an input that is computed."""
        index = op.inputs[place] if len(op.inputs) > place else -1
        if index not in self.held:
            raise Unpriced(f"its input {place} is not computed by an operator before it")
        return self.held[index]

    def const(self, op: TfOp, place: int) -> TfTensor | None:
        """Return an input that is constant, with its data; None where it is left out."""
        index = op.inputs[place] if len(op.inputs) > place else -1
        if index == -1:
            return None
        if index in self.held:
            raise Unpriced(f"its input {place} is computed at run time")
        tensor = self.tensor(index)
        data = self.constants.get(index, tensor.data)
        if data is None:
            raise Problem(f"lacks the data of its constant input {quote(tensor.name)}")
        return replace(tensor, data=data)

    def emit(self, op: TfOp, kind: str, inputs: list[str], out: Shape4, **fields: Any) -> Draft:
        """Append a layer for an operator, named after its output."""
        if any(not 1 <= n <= LARGEST_DIM for n in out):
            raise Problem(f"gives a tensor of shape {list(out)}")
        name = self.tensor(op.outputs[0]).name.split(";")[0] or op.op.lower()
        return self.sketch.add(Draft(name=name, op=kind, inputs=inputs, out=out, shape=out, origin=op.op, **fields))


def put_channels_first(shape: tuple[int, ...]) -> Shape4:
    """Return a channels-last shape of rank 0 to 4 as ``[N, C, H, W]``."""
    if len(shape) == 4:
        return (shape[0], shape[3], shape[1], shape[2])
    if len(shape) == 3:
        return (shape[0], shape[2], 1, shape[1])
    if len(shape) == 2:
        return (shape[0], shape[1], 1, 1)
    return (1, shape[0] if shape else 1, 1, 1)


def make_real(tensor: TfTensor) -> Any:
    """Return the data of a constant as floats: integers with scales by their scale and zero point."""
    if tensor.data.dtype.kind not in "iu" or tensor.scale.size == 0:
        return np.asarray(tensor.data, dtype=np.float32)
    shape = [1] * tensor.data.ndim
    if tensor.scale.size > 1:
        shape[tensor.axis] = -1
    return (tensor.data.astype(np.float64) - tensor.zero.reshape(shape)) * tensor.scale.reshape(shape)
