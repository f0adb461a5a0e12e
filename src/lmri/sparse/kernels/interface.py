"""What every backend computes."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Backend(Protocol):
    """Products of few rows of activations with weights of which a part is never read.

    All tensors are on one device. Activations are one row of shape (n_in,), or up to
    :data:`MOST_ROWS` with any leading dimensions; where a threshold decides, every row skips on its
    own. Weights, activations and biases are of one of :data:`DTYPES`, sums are in float32, and
    results have the leading shape and the dtype of the first argument. A value that is not a number
    is no value to skip: it counts as active, so that it shows. Nothing here has a gradient.

    All methods raise :class:`lmri.errors.SparseError` if a shape, dtype, layout or device is not as
    they say, or if an index is out of range or out of order. On a GPU an index is not looked at,
    because that would hold it up: what it names out of range is skipped.

    Attributes
    ----------
    name : str
        As in :data:`lmri.sparse.kernels.BACKENDS`.
    device : str
        Type of the device that all tensors have to be on.
    """

    name: str
    device: str

    def transposed(self, weight: Tensor) -> Tensor:
        """Copy the weights of a linear layer to where and how input-sparse products read best.

        Parameters
        ----------
        weight : Tensor of shape (..., n_out, n_in)
            Weights of a linear layer, or of several.

        Returns
        -------
        Tensor of shape (..., n_in, n_out)
            The transpose of each, contiguous.
        """
        ...

    def input_sparse(
        self, x: Tensor, weight_t: Tensor, threshold: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Compute ``y = sum over i with |x_i| > t_i of x_i * weight_t[i] + bias``.

        Parameters
        ----------
        x : Tensor of shape (..., n_in)
            Activations.
        weight_t : Tensor of shape (n_in, n_out)
            Weights of a linear layer, transposed and contiguous: a channel is one run of memory.
        threshold : Tensor of shape () or (n_in,), float32
            One threshold for all channels or one for each, in the unit of ``x``. Strict: a value
            equal to it is skipped, so that 0 skips zeros alone.
        bias : Tensor of shape (n_out,), optional
            Added to every row.

        Returns
        -------
        Tensor of shape (..., n_out)
            The products.
        """
        ...

    def input_listed(
        self, x: Tensor, weight_t: Tensor, index: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Compute ``y = sum over i in index of x_i * weight_t[i] + bias``.

        Parameters
        ----------
        x : Tensor of shape (..., n_in)
            Activations. Those of channels that are not listed are not used.
        weight_t : Tensor of shape (n_in, n_out)
            Weights of a linear layer, transposed and contiguous.
        index : Tensor of shape (n_listed,), int64
            Which channels to use, of all rows; ascending, each once.
        bias : Tensor of shape (n_out,), optional
            Added to every row.

        Returns
        -------
        Tensor of shape (..., n_out)
            The products.
        """
        ...

    def output_sparse(
        self, x: Tensor, weight: Tensor, index: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Compute ``y_k = sum over i of weight[k, i] * x_i + bias_k`` for the outputs named.

        Parameters
        ----------
        x : Tensor of shape (..., n_in)
            Activations.
        weight : Tensor of shape (n_out, n_in)
            Weights of a linear layer, contiguous.
        index : Tensor of shape (n_named,), int64
            Which outputs to compute, ascending, each once.
        bias : Tensor of shape (n_out,), optional
            Added to the outputs named.

        Returns
        -------
        Tensor of shape (..., n_out)
            The products; 0 for every output that is not named.
        """
        ...

    def sparse_mlp(
        self,
        a: Tensor,
        x: Tensor | None,
        weight_up: Tensor | None,
        weight_down_t: Tensor,
        threshold: Tensor,
        bias_up: Tensor | None = None,
        bias_down: Tensor | None = None,
    ) -> Tensor:
        """Compute ``y = sum_i a_i * (weight_up[i] . x + b_i) * weight_down_t[i] + bias_down``.

        The sum is over neurons with ``|a_i| > t_i``. Of others, neither a row of ``weight_up`` nor
        one of ``weight_down_t`` is read. Neurons stay in float32 between the two products.

        Parameters
        ----------
        a : Tensor of shape (..., n_neurons)
            What the gate gives after its nonlinearity.
        x : Tensor of shape (..., n_in), or None
            Input of the MLP; None without ``weight_up``.
        weight_up : Tensor of shape (n_neurons, n_in), or None
            Weights of the up projection. None where ``a`` are the neurons themselves: the product
            is then :meth:`input_sparse` of them.
        weight_down_t : Tensor of shape (n_neurons, n_out)
            Weights of the down projection, transposed and contiguous, of the dtype of
            ``weight_up``.
        threshold : Tensor of shape () or (n_neurons,), float32
            One threshold for all neurons or one for each, in the unit of ``a``. Strict.
        bias_up : Tensor of shape (n_neurons,), optional
            Of the up projection.
        bias_down : Tensor of shape (n_out,), optional
            Of the down projection.

        Returns
        -------
        Tensor of shape (..., n_out)
            What the MLP adds to the residual stream.
        """
        ...

    def whole_mlp(
        self,
        x: Tensor,
        weight_in: Tensor,
        weight_up: Tensor | None,
        weight_down_t: Tensor,
        activation: str,
        threshold: Tensor,
        bias_in: Tensor | None = None,
        bias_up: Tensor | None = None,
        bias_down: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute ``a = activation(weight_in @ x + bias_in)`` and :meth:`sparse_mlp` of it.

        ``a`` is rounded as a module would round it, before the activation function and after.

        Parameters
        ----------
        x : Tensor of shape (..., n_in)
            Input of the MLP.
        weight_in : Tensor of shape (n_neurons, n_in)
            Weights of the gate; where there is none, of the up projection.
        weight_up : Tensor of shape (n_neurons, n_in), or None
            Weights of the up projection of a gated MLP.
        weight_down_t : Tensor of shape (n_neurons, n_out)
            Weights of the down projection, transposed. All weights are contiguous, of one dtype.
        activation : str
            One of :data:`ACTIVATIONS`.
        threshold : Tensor of shape () or (n_neurons,), float32
            One threshold for all neurons or one for each, in the unit of ``a``. Strict.
        bias_in, bias_up : Tensor of shape (n_neurons,), optional
            Of the first projection and of ``weight_up``.
        bias_down : Tensor of shape (n_out,), optional
            Of the down projection.

        Returns
        -------
        y : Tensor of shape (..., n_out)
            What the MLP adds to the residual stream.
        a : Tensor of shape (..., n_neurons)
            What decides which neurons are computed.
        """
        ...
