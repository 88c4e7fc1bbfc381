"""The tensor operations that are understood, by the name under which PyTorch calls them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torchscape.symmetry.modules.axes import Ledger
from torchscape.symmetry.modules.factors import Axis, Charge, Unclear, length
from torchscape.symmetry.modules.rules import Label, Rules, reduced_dims
from torchscape.types import Tensor

__all__ = ["OPERATIONS", "Operations"]

Operation = Callable[..., "Label | list[Label] | list[Label | None]"]
OPERATIONS: dict[str, Operation] = {}


def _named(*names: str) -> Callable[[Operation], Operation]:
    """Register a method as the rule of these operations (their in-place variants too)."""

    def register(rule: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, rule))
        return rule

    return register


class Operations(Rules):
    """Rules with the signatures of the operations themselves, preceded by their result."""

    def __init__(self, ledger: Ledger, label: Callable[[Tensor], Label]) -> None:
        super().__init__(ledger)
        self._label = label
        self.idle: list[tuple[Tensor, slice]] = []
        self.summed: list[tuple[Tensor, Tensor, slice]] = []
        self._products: dict[int, tuple[Tensor, list[Axis]]] = {}  # whose units are not yet told apart
        self._layers: dict[int, tuple[Tensor, tuple[Label, ...]]] = {}  # the tensor is kept: its id is not reused

    def of(self, value: Any) -> Label:
        """The label of a tensor; numbers are tensors without axes."""
        return self._label(value) if isinstance(value, Tensor) else Label(())

    def maybe(self, value: Tensor | None) -> Label | None:
        return None if value is None else self.of(value)

    # --- tensors whose first axis tells layers apart --------------------------------------------------------

    def remember_layers(self, tensor: Tensor, labels: Sequence[Label]) -> None:
        """``tensor[k]`` has the label k: nothing ties them, as long as nothing is done to all of them at once."""
        self._layers[id(tensor)] = tensor, tuple(labels)

    def layers_of(self, tensor: Tensor) -> tuple[Label, ...] | None:
        """The labels of ``tensor[k]``, where they were remembered."""
        found = self._layers.get(id(tensor))
        return None if found is None else found[1]

    def settle(self, tensors: Iterable[Tensor]) -> None:
        """Products that are used otherwise than in sums: their units are told apart."""
        for tensor in tensors:
            for axis in self._products.get(id(tensor), (tensor, []))[1]:
                self.ledger.bend(axis)

    # --- linear maps ------------------------------------------------------------------------------------

    @_named("linear")
    def _linear(self, out, input, weight, bias=None):
        return self.linear(self.of(input), self.of(weight), self.maybe(bias))

    @_named("matmul", "mm", "bmm", "mv", "dot", "_sparse_mm", "spmm")
    def _matmul(self, out, a, b):
        return self.matmul(self.of(a), self.of(b))

    @_named("rmatmul")
    def _rmatmul(self, out, a, b):
        return self.matmul(self.of(b), self.of(a))

    @_named("addmm", "addmv", "baddbmm")
    def _addmm(self, out, bias, a, b, *, beta=1, alpha=1):
        return self.add(self.matmul(self.of(a), self.of(b)), self.of(bias))

    @_named("einsum")
    def _einsum(self, out, equation, *operands):
        if not isinstance(equation, str) or "->" not in equation or "." in equation:
            raise Unclear("is understood in the form 'ij,jk->ik' only")
        if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = tuple(operands[0])
        terms, result = equation.replace(" ", "").split("->")
        return self.contract(
            [(list(t), self.of(x)) for t, x in zip(terms.split(","), operands, strict=True)], result
        )

    @_named("bilinear")
    def _bilinear(self, out, input1, input2, weight, bias=None):
        batch = list(range(input1.ndim - 1))
        operands = [([*batch, "i"], self.of(input1)), ([*batch, "j"], self.of(input2)), ("oij", self.of(weight))]
        y = self.contract(operands, [*batch, "o"])
        return y if bias is None else self.add(y, self.of(bias))

    @_named("conv1d", "conv2d", "conv3d")
    def _conv(self, out, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        bias = self.maybe(bias)
        return self.convolution(self.of(input), self.of(weight), bias, out.shape, groups, flip=False)

    @_named("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
    def _conv_transpose(
        self, out, input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
    ):
        bias = self.maybe(bias)
        return self.convolution(self.of(input), self.of(weight), bias, out.shape, groups, flip=True)

    @_named("embedding")
    def _embedding(self, out, input, weight, padding_idx=None, max_norm=None, *args, **kwargs):
        if max_norm is not None:
            raise Unclear("changes its weight (max_norm)")
        table = self.of(weight)
        self.ledger.fix(table.axes[0])
        self.ledger.inert(table.axes[0])
        return Label((*Label.of_data(input.shape).axes, table.axes[1]))

    # --- elementwise ------------------------------------------------------------------------------------

    @_named("add", "radd", "iadd", "sub", "subtract", "rsub", "isub")
    def _add(self, out, a, b, *, alpha=1):
        return self.add(self.of(a), self.of(b))

    @_named("mul", "multiply", "rmul", "imul")
    def _mul(self, out, a, b):
        product, shared = self.product(self.of(a), self.of(b))
        self._products[id(out)] = out, shared
        return product

    @_named("div", "divide", "true_divide", "truediv", "itruediv")
    def _div(self, out, a, b, *, rounding_mode=None):
        if rounding_mode is not None:
            raise Unclear("rounds")
        return self.multiply(self.of(a), self.of(b), divide=True)

    @_named("rdiv", "rtruediv")
    def _rdiv(self, out, a, b):
        return self._div(out, b, a)

    @_named("maximum", "minimum")
    def _extreme(self, out, a, b):
        return self.power(self.add(self.of(a), self.of(b)), parity=None, degree=1.0)

    @_named("pow", "rpow", "atan2", "arctan2", "hypot")
    def _pointwise(self, out, a, b):
        return self.power(self.add(self.of(a), self.of(b)), parity=None, degree=None)

    @_named("masked_fill")
    def _masked_fill(self, out, input, mask, value):
        return self.power(self.add(self.of(input), self.of(mask)), parity=None, degree=None)

    @_named("where")
    def _where(self, out, condition, a, b):
        both = self.add(self.of(a), self.of(b))
        return self.power(self.add(both, self.of(condition)), parity=None, degree=None)

    @_named("prelu")
    def _prelu(self, out, input, weight):
        x, slope = self.of(input), self.of(weight)
        self.ledger.neutral(slope.axes[0])
        axes: list[Axis] = [()] * input.ndim
        if weight.numel() > 1:
            axes[min(1, input.ndim - 1)] = slope.axes[0]
        return self.power(self.multiply(x, Label(tuple(axes))), parity=None, degree=1.0)

    @_named(
        "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
        "binary_cross_entropy_with_logits", "kl_div", "gaussian_nll_loss", "poisson_nll_loss", "soft_margin_loss",
    )  # fmt: skip
    def _loss(self, out, input, target, *args, **kwargs):
        """What a loss compares may not change."""
        self.freeze(self.of(input))
        self.freeze(self.of(target))
        return Label.of_data(out.shape)

    @_named("_weight_norm")
    def _weight_norm(self, out, v, g, dim=0):
        """g v / |v|, the norm over all axes but ``dim``.

        The length of a row of v does not matter, but it has no least one: at nought the direction is lost. So that
        is no scale that could be taken out, and a flat direction that nothing explains.
        """
        rows, lengths = self.of(v), self.of(g)
        for axis in rows.axes:
            self.ledger.neutral(axis, sign=False)
            self.ledger.bend(axis)
        return self.multiply(Label(tuple(self.ledger.recharged(a, _without_scale) for a in rows.axes)), lengths)

    # --- normalisation ----------------------------------------------------------------------------------

    @_named("softmax", "log_softmax", "softmin")
    def _softmax(self, out, input, *args, **kwargs):
        return self.power(self.of(input), parity=None, degree=None)

    @_named("batch_norm")
    def _batch_norm(self, out, input, running_mean, running_var, weight=None, bias=None, training=False, *a, **k):
        if training or running_mean is None:
            raise Unclear("uses the statistics of the batch")
        space = [()] * (input.ndim - 2)

        def channels(tensor: Tensor) -> Label:
            return Label((*self.of(tensor).axes, *space), self.of(tensor).is_zero)

        y = self.add(self.of(input), channels(running_mean))
        y = self.multiply(y, channels(running_var))
        y = y if weight is None else self.multiply(y, channels(weight))
        return y if bias is None else self.add(y, channels(bias))

    @_named("layer_norm", "rms_norm")
    def _layer_norm(self, out, input, normalized_shape, weight=None, bias=None, eps=None, **kwargs):
        y = self.normalise(self.of(input), sign=False)
        y = y if weight is None else self.multiply(y, self.of(weight))
        return y if bias is None else self.add(y, self.of(bias))

    @_named("group_norm")
    def _group_norm(self, out, input, num_groups, weight=None, bias=None, eps=1e-5):
        x = self.normalise(self.of(input), sign=False)
        channels = x.axes[1]
        halves = self.ledger.regroup([channels], (num_groups, length(channels) // num_groups))
        x = Label((x.axes[0], halves[0] + halves[1], *x.axes[2:]))
        space = [()] * (input.ndim - 2)
        x = x if weight is None else self.multiply(x, Label((*self.of(weight).axes, *space)))
        return x if bias is None else self.add(x, Label((*self.of(bias).axes, *space)))

    @_named("instance_norm")
    def _instance_norm(
        self, out, input, running_mean=None, running_var=None, weight=None, bias=None, *args, **kwargs
    ):
        if running_mean is not None:
            raise Unclear("keeps running statistics")
        return self._group_norm(out, input, input.shape[1], weight, bias)

    # --- attention --------------------------------------------------------------------------------------

    @_named("scaled_dot_product_attention")
    def _sdpa(
        self, out, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ):
        if dropout_p or enable_gqa:
            raise Unclear("drops at random, or shares heads between groups")
        mask = self.maybe(attn_mask)
        return self.attention(self.of(query), self.of(key), self.of(value), mask, causal=is_causal)

    @_named("multi_head_attention_forward")
    def _multi_head(
        self, out, query, key, value, embed_dim, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v,
        add_zero_attn, dropout_p, out_proj_weight, out_proj_bias, training=True, key_padding_mask=None,
        need_weights=True, attn_mask=None, use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None,
        v_proj_weight=None, static_k=None, static_v=None, average_attn_weights=True, is_causal=False,
    ):  # fmt: skip
        if bias_k is not None or bias_v is not None or add_zero_attn or (training and dropout_p):
            raise Unclear("has extra keys, or drops at random")
        if static_k is not None or static_v is not None or query.ndim != 3:
            raise Unclear("is unbatched, or has static keys")
        inner = embed_dim
        if use_separate_proj_weight:
            weights = [self.of(w) for w in (q_proj_weight, k_proj_weight, v_proj_weight)]
        else:
            weights = self.slices(self.of(in_proj_weight), 0, [inner] * 3)
        biases: Sequence[Label | None] = [None] * 3
        if in_proj_bias is not None:
            biases = self.slices(self.of(in_proj_bias), 0, [inner] * 3)
            self.idle.append((in_proj_bias, slice(inner, 2 * inner)))
        heads = [
            self._heads(self.linear(self.of(x), w, b), num_heads)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        ]
        mask = self._mask(attn_mask, key_padding_mask, query, num_heads)
        q, k, v = heads
        y, scores = self.attention_and_weights(q, k, v, mask, causal=is_causal and attn_mask is None)
        y = self.permute(y, (2, 0, 1, 3))
        joined = Label((y.axes[0], y.axes[1], self.ledger.expand(y.axes[2] + y.axes[3])))
        y = self.linear(joined, self.of(out_proj_weight), self.maybe(out_proj_bias))
        if out[1] is None:
            return [y]
        if average_attn_weights:
            scores = self.reduce(scores, [1], keepdim=False, linear=True, ordered=False)
        return [y, scores]

    def _heads(self, x: Label, n: int) -> Label:
        """[L, N, E] to [N, heads, L, E / heads]."""
        head, rest = self.ledger.regroup([x.axes[2]], (n, length(x.axes[2]) // n))
        return Label((x.axes[1], head, x.axes[0], rest))

    def _mask(self, attn_mask, key_padding_mask, query, num_heads: int) -> Label | None:
        """A mask per head tells the heads apart; any other only fixes positions, which are data anyway."""
        if attn_mask is not None and attn_mask.ndim == 3:
            return Label.of_data((query.shape[1], num_heads, *attn_mask.shape[1:]))
        if attn_mask is not None:
            return self.of(attn_mask)
        return None if key_padding_mask is None else Label((*Label.of_data(query.shape[1:2]).axes, (), (), ()))

    # --- shapes -----------------------------------------------------------------------------------------

    @_named("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel", "view_as", "reshape_as")
    def _reshape(self, out, input, *args, **kwargs):
        return self.reshape(self.of(input), out.shape)

    @_named("transpose", "swapaxes", "swapdims")
    def _transpose(self, out, input, dim0, dim1):
        order = list(range(input.ndim))
        order[dim0], order[dim1] = order[dim1], order[dim0]
        return self.permute(self.of(input), order)

    @_named("t", "get_T", "get_mT", "get_mH", "adjoint")
    def _t(self, out, input):
        if input.ndim < 2:
            return self.of(input)
        if input.ndim > 2 and not (out.shape == input.mT.shape and out.stride() == input.mT.stride()):
            raise Unclear("reverses all axes")
        return self._transpose(out, input, -1, -2)

    @_named("get_data")
    def _data(self, out, input):
        return self.of(input)

    @_named("permute")
    def _permute(self, out, input, *dims):
        dims = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
        return self.permute(self.of(input), [d % input.ndim for d in dims])

    @_named("movedim", "moveaxis")
    def _movedim(self, out, input, source, destination):
        if not isinstance(source, int):
            raise Unclear("moves several axes at once")
        order = [i for i in range(input.ndim) if i != source % input.ndim]
        order.insert(destination % input.ndim, source % input.ndim)
        return self.permute(self.of(input), order)

    @_named("expand", "expand_as", "broadcast_to")
    def _expand(self, out, input, *args, **kwargs):
        return self.broadcast(self.of(input), out.shape)

    @_named("cat", "concat", "concatenate")
    def _cat(self, out, tensors, dim=0, **kwargs):
        return self.concatenate([self.of(t) for t in tensors], dim % out.ndim)

    @_named("stack")
    def _stack(self, out, tensors, dim=0):
        return self.stack([self.of(t) for t in tensors], dim % out.ndim)

    @_named("chunk", "split", "tensor_split", "split_with_sizes")
    def _split(self, out, input, sections, dim=0):
        dim %= input.ndim
        return self.slices(self.of(input), dim, [part.shape[dim] for part in out])

    # --- reductions and pooling -------------------------------------------------------------------------

    @_named("mean", "sum", "nansum", "nanmean")
    def _mean(self, out, input, dim=None, keepdim=False, **kwargs):
        x, dims = self.of(input), reduced_dims(dim, input.ndim)
        inner = id(input) in self._products
        for axis in self._products.get(id(input), (input, []))[1]:
            if not any(axis is x.axes[d] for d in dims):
                self.ledger.bend(axis)
        return self.reduce(x, dims, keepdim=keepdim, linear=True, ordered=False, inner=inner)

    @_named("amax", "amin")
    def _amax(self, out, input, dim=None, keepdim=False):
        dims = reduced_dims(dim, input.ndim)
        return self.reduce(self.of(input), dims, keepdim=keepdim, linear=False, ordered=True)

    @_named("logsumexp", "prod", "var", "std")
    def _statistic(self, out, input, dim=None, *args, keepdim=False, **kwargs):
        dims = reduced_dims(dim, input.ndim)
        return self.reduce(self.of(input), dims, keepdim=keepdim, linear=False, ordered=False)

    @_named("max_pool1d", "max_pool2d", "max_pool3d",
            "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")  # fmt: skip
    def _max_pool(self, out, input, kernel_size=None, *args, **kwargs):
        return self.resample(self.of(input), out.shape, _n_space(out, input), linear=False)

    @_named("avg_pool1d", "avg_pool2d", "avg_pool3d",
            "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "interpolate")  # fmt: skip
    def _avg_pool(self, out, input, *args, **kwargs):
        return self.resample(self.of(input), out.shape, _n_space(out, input), linear=True)

    @_named("pad")
    def _pad(self, out, input, pad, mode="constant", value=None):
        y = self.resample(self.of(input), out.shape, len(pad) // 2, linear=True)
        return self.power(y, parity=None, degree=None) if value else y


def _without_scale(charge: Charge) -> Charge:
    return Charge(charge.sign)


def _n_space(out: Tensor, input: Tensor) -> int:
    """Pooling acts on everything behind the batch and the channels; an unbatched input has no batch axis."""
    return input.ndim - 2
