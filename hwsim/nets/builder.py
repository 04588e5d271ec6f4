"""A small language to write networks in: one call a layer, shapes and padding computed.

Every method appends one layer, named by its first argument behind the tensor, and returns the name of its output::

    net = NetBuilder("tiny", "an example")
    x = net.input((3, 32, 32))
    y = net.conv(x, "conv1", 16, 3, padding=1, activation="relu")
    z = net.add((x2, y), "add", activation="relu")
    network = net.finish()

``padding`` of a convolution or pooling is a number (all four sides), four numbers (top, left, bottom, right) or
``SAME``.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwsim.core.errors import SpecError
from hwsim.core.layer import Attr, Layer
from hwsim.core.network import Network, TensorSpec

SAME = "same"
"""TensorFlow's padding: output = ceil(input / stride), the odd row and column at the bottom and right
(tensorflow.org, ``tf.nn`` "Notes on padding")."""

Pair = int | tuple[int, int]
Quad = tuple[int, int, int, int]
Padding = int | Quad | str


class NetBuilder:
    """Builds one network of batch size 1, layer by layer.

    Parameters
    ----------
    name : str
        The network's name.
    source : str
        Where its shapes come from.
    """

    def __init__(self, name: str, source: str) -> None:
        self._name, self._source = name, source
        self._inputs: list[TensorSpec] = []
        self._layers: list[Layer] = []
        self._notes: list[str] = []
        self._shapes: dict[str, Quad] = {}

    def shape(self, x: str) -> Quad:
        """Return the shape ``[N, C, H, W]`` of a tensor."""
        return self._shapes[x]

    def input(self, shape: Sequence[int], name: str = "input") -> str:
        """Declare a network input of shape (C, H, W), or (C,) for a vector."""
        full = (1, *shape, *(1,) * (3 - len(shape)))
        spec = TensorSpec(name=name, shape=(full[0], full[1], full[2], full[3]))
        self._inputs.append(spec)
        self._shapes[name] = spec.shape
        return name

    def note(self, text: str) -> None:
        """Add what a reader of the network should know."""
        self._notes.append(text)

    # Layers that multiply by weights.

    def conv(
        self,
        x: str,
        name: str,
        channels: int,
        kernel: Pair,
        *,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        activation: str = "none",
        operator: str = "multiply",
    ) -> str:
        """Append a convolution to ``channels`` output channels in ``groups`` groups; ``operator`` is what its weights do."""
        n, in_channels, height, width = self._shapes[x]
        if groups < 1 or in_channels % groups or channels % groups:
            raise SpecError(f"layer {name}.groups", groups, f"a divisor of {in_channels} and {channels} channels")
        window, step, spread = _pair(kernel), _pair(stride), _pair(dilation)
        pads = _pad(padding, (height, width), window, step, spread)
        out = _count_windows((height, width), window, step, spread, pads)
        return self._append(
            Layer(
                name=name,
                op="conv",
                inputs=(x,),
                N=n,
                G=groups,
                K=channels // groups,
                C=in_channels // groups,
                P=out[0],
                Q=out[1],
                R=window[0],
                S=window[1],
                H=height,
                W=width,
                stride=step,
                padding=pads,
                dilation=spread,
                activation=activation,
                attrs=() if operator == "multiply" else (("operator", operator),),
            )
        )

    def depthwise(
        self,
        x: str,
        name: str,
        kernel: Pair,
        *,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        activation: str = "none",
        operator: str = "multiply",
    ) -> str:
        """Append a depthwise convolution: each channel has one filter of its own."""
        channels = self._shapes[x][1]
        return self.conv(
            x,
            name,
            channels,
            kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=channels,
            activation=activation,
            operator=operator,
        )

    def fc(self, x: str, name: str, features: int, *, activation: str = "none") -> str:
        """Append a fully connected layer; its input is a vector (see ``flatten``)."""
        n, in_features, height, width = self._shapes[x]
        if (height, width) != (1, 1):
            raise SpecError(f"layer {name}.inputs", self._shapes[x], "a vector (flatten it first)")
        layer = Layer(name=name, op="gemm", inputs=(x,), N=n, K=features, C=in_features, activation=activation)
        return self._append(layer)

    # Layers of the vector unit.

    def maxpool(
        self, x: str, name: str, kernel: Pair, *, stride: Pair, padding: Padding = 0, ceil_mode: bool = False
    ) -> str:
        """Append a max pooling; with ``ceil_mode`` a last partial window counts (extra padding at bottom and right)."""
        return self._pool(x, name, "maxpool", kernel, stride, padding, ceil_mode)

    def avgpool(
        self,
        x: str,
        name: str,
        kernel: Pair,
        *,
        stride: Pair,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> str:
        """Append an average pooling; the divisor leaves padding out unless ``count_include_pad``."""
        attrs = (("count_include_pad", int(count_include_pad)),)
        return self._pool(x, name, "avgpool", kernel, stride, padding, ceil_mode, attrs)

    def global_avgpool(self, x: str, name: str) -> str:
        """Append the average over all positions of each channel."""
        height, width = self._shapes[x][2:]
        return self.avgpool(x, name, (height, width), stride=(height, width))

    def add(self, xs: Sequence[str], name: str, *, activation: str = "none") -> str:
        """Append the sum of tensors of one shape."""
        return self._elementwise("add", xs, name, activation)

    def mul(self, xs: Sequence[str], name: str, *, activation: str = "none") -> str:
        """Append the product of tensors; a ``[N, C, 1, 1]`` operand scales each channel."""
        return self._elementwise("mul", xs, name, activation)

    def activate(self, x: str, name: str, activation: str) -> str:
        """Append an activation that stands alone (one behind a layer is that layer's ``activation``)."""
        return self._elementwise("activation", (x,), name, activation)

    def scale(self, x: str, name: str, *, activation: str = "none") -> str:
        """Append a per-channel affine map: a batch normalization that no convolution before it can absorb."""
        return self._elementwise("scale", (x,), name, activation)

    def softmax(self, x: str, name: str) -> str:
        """Append a softmax over channels."""
        return self._elementwise("softmax", (x,), name, "none")

    def lrn(self, x: str, name: str, *, size: int, alpha: float, beta: float, bias: float) -> str:
        """Append a local response normalization across ``size`` channels (attributes as in ONNX LRN)."""
        attrs = (("alpha", alpha), ("beta", beta), ("bias", bias), ("size", size))
        return self._elementwise("lrn", (x,), name, "none", attrs)

    # Layers without arithmetic.

    def concat(self, xs: Sequence[str], name: str) -> str:
        """Append the concatenation along channels, in order."""
        n, _, height, width = self._shapes[xs[0]]
        channels = sum(self._shapes[x][1] for x in xs)
        return self._address("concat", tuple(xs), name, (n, channels, height, width))

    def flatten(self, x: str, name: str = "flatten") -> str:
        """Append the map to a vector, channels outermost."""
        n, channels, height, width = self._shapes[x]
        return self._address("flatten", (x,), name, (n, channels * height * width, 1, 1))

    def slice_channels(self, x: str, name: str, start: int, stop: int) -> str:
        """Append the selection of channels ``start`` to ``stop - 1``."""
        n, channels, height, width = self._shapes[x]
        if not 0 <= start < stop <= channels:
            raise SpecError(f"layer {name}", (start, stop), f"0 <= start < stop <= {channels}")
        attrs = (("start", start), ("stop", stop))
        return self._address("slice", (x,), name, (n, stop - start, height, width), attrs)

    def shuffle(self, x: str, name: str, groups: int) -> str:
        """Append a channel shuffle: channel ``g * (C / groups) + i`` moves to ``i * groups + g``."""
        shape = self._shapes[x]
        if groups < 1 or shape[1] % groups:
            raise SpecError(f"layer {name}.groups", groups, f"a divisor of {shape[1]} channels")
        return self._address("shuffle", (x,), name, shape, (("groups", groups),))

    def finish(self, outputs: Sequence[str] = ()) -> Network:
        """Return the network; its outputs are those named, or the tensors that nobody reads."""
        read = {source for layer in self._layers for source in layer.inputs}
        return Network(
            name=self._name,
            inputs=tuple(self._inputs),
            layers=tuple(self._layers),
            outputs=tuple(outputs) or tuple(layer.name for layer in self._layers if layer.name not in read),
            source=self._source,
            notes=tuple(self._notes),
        )

    def _append(self, layer: Layer) -> str:
        self._layers.append(layer)
        self._shapes[layer.name] = layer.out_shape
        return layer.name

    def _pool(
        self,
        x: str,
        name: str,
        op: str,
        kernel: Pair,
        stride: Pair,
        padding: Padding,
        ceil_mode: bool,
        attrs: tuple[tuple[str, Attr], ...] = (),
    ) -> str:
        n, channels, height, width = self._shapes[x]
        window, step = _pair(kernel), _pair(stride)
        pads = _pad(padding, (height, width), window, step, (1, 1))
        if ceil_mode:
            pads = _round_up((height, width), window, step, pads)
        out = _count_windows((height, width), window, step, (1, 1), pads)
        return self._append(
            Layer(
                name=name,
                op=op,
                inputs=(x,),
                N=n,
                G=channels,
                P=out[0],
                Q=out[1],
                R=window[0],
                S=window[1],
                H=height,
                W=width,
                stride=step,
                padding=pads,
                attrs=attrs,
            )
        )

    def _elementwise(
        self, op: str, xs: Sequence[str], name: str, activation: str, attrs: tuple[tuple[str, Attr], ...] = ()
    ) -> str:
        shapes = [self._shapes[x] for x in xs]
        n, channels, height, width = (max(sizes) for sizes in zip(*shapes, strict=True))
        layer = Layer(
            name=name,
            op=op,
            inputs=tuple(xs),
            N=n,
            G=channels,
            P=height,
            Q=width,
            H=height,
            W=width,
            activation=activation,
            attrs=attrs,
        )
        return self._append(layer)

    def _address(
        self, op: str, xs: tuple[str, ...], name: str, shape: Quad, attrs: tuple[tuple[str, Attr], ...] = ()
    ) -> str:
        n, channels, out_height, out_width = shape
        height, width = self._shapes[xs[0]][2:]
        layer = Layer(
            name=name, op=op, inputs=xs, N=n, G=channels, P=out_height, Q=out_width, H=height, W=width, attrs=attrs
        )
        return self._append(layer)


def round_channels(channels: float, divisor: int = 8) -> int:
    """Return a channel count rounded to a multiple of ``divisor``, never more than 10 % down.

    The rule of the MobileNet family (tensorflow/models, slim/nets/mobilenet, ``_make_divisible``).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _pad(
    padding: Padding, size: tuple[int, int], window: tuple[int, int], step: tuple[int, int], spread: tuple[int, int]
) -> Quad:
    """Resolve a padding to top, left, bottom, right."""
    if isinstance(padding, int):
        return (padding, padding, padding, padding)
    if isinstance(padding, tuple):
        return padding
    if padding != SAME:
        raise SpecError("padding", padding, "a number, four numbers or SAME")
    total = [max((-(-size[i] // step[i]) - 1) * step[i] + spread[i] * (window[i] - 1) + 1 - size[i], 0) for i in (0, 1)]
    top, left = total[0] // 2, total[1] // 2
    return (top, left, total[0] - top, total[1] - left)


def _count_windows(
    size: tuple[int, int], window: tuple[int, int], step: tuple[int, int], spread: tuple[int, int], pads: Quad
) -> tuple[int, int]:
    height, width = ((size[i] + pads[i] + pads[i + 2] - spread[i] * (window[i] - 1) - 1) // step[i] + 1 for i in (0, 1))
    return height, width


def _round_up(size: tuple[int, int], window: tuple[int, int], step: tuple[int, int], pads: Quad) -> Quad:
    """Extend bottom and right so that a last partial window counts, unless it would start in the padding.

    The rule of PyTorch's ``ceil_mode`` (pytorch.org, ``torch.nn.MaxPool2d``).
    """
    ends = []
    for i in (0, 1):
        before, after = pads[i], pads[i + 2]
        count = -(-(size[i] + before + after - window[i]) // step[i]) + 1
        if (count - 1) * step[i] >= size[i] + before:
            count -= 1
        ends.append(max(after, (count - 1) * step[i] + window[i] - size[i] - before))
    return (pads[0], pads[1], ends[0], ends[1])
