"""The three parts of a Memory Fusion Network: a system of LSTMs, attention to their change, a gated memory."""

import keras
from keras import ops

from keras_misa.baselines._aligned_steps import align
from keras_misa.layers._frozen import keep_frozen
from keras_misa.layers.step_encoder import is_real

GATES = ("retain", "update")


@keras.saving.register_keras_serializable("keras_misa")
class MemoryFusion(keras.layers.Layer):
    r"""From the aligned steps of all modalities to their LSTMs' last states and the memory; see `MemoryFusionNetwork`.

    All but the LSTMs and the memory's recursion is computed for all steps at once.

    Args:
        units: dict, modality → size of its LSTM's state, in the order in which the states stand.
        memory_dim: size of the memory.
        attention_dim: hidden size of the network that makes the attention.
        proposal_dim: hidden size of the network that proposes a memory.
        gate_dim: hidden size of the network of each gate.
        dropout: rate in these networks.

    Call arguments:
        steps: dict, modality → dict of `values` and `lengths`, as a `StepEncoder` gives them.

    Returns:
        Tensor `(batch, sum of units + memory_dim)`.
    """

    def __init__(self, units, memory_dim, attention_dim, proposal_dim, gate_dim, dropout, **kwargs):
        super().__init__(**kwargs)
        self.units = dict(units)
        self.memory_dim = memory_dim
        self.attention_dim = attention_dim
        self.proposal_dim = proposal_dim
        self.gate_dim = gate_dim
        self.dropout = dropout
        dtype, dense = self.dtype_policy, keras.layers.Dense
        self.lstms = {
            m: keras.layers.RNN(
                CellStateLSTMCell(size, dtype=dtype),
                return_sequences=True,
                return_state=True,
                dtype=dtype,
                name=f"{m}_lstm",
            )
            for m, size in self.units.items()
        }
        changes = 2 * sum(self.units.values())
        self.attention_hidden = dense(attention_dim, "relu", dtype=dtype, name="attention_hidden")
        self.attention = dense(changes, "softmax", dtype=dtype, name="attention")
        self.proposal_hidden = dense(proposal_dim, "relu", dtype=dtype, name="proposal_hidden")
        self.proposal = dense(memory_dim, "tanh", dtype=dtype, name="proposal")
        self.gates_hidden = dense(2 * gate_dim, dtype=dtype, name="gates_hidden")  # the part of the attended changes
        self.memory = keras.layers.RNN(
            GatedMemoryCell(memory_dim, gate_dim, dtype=dtype, name="memory_cell"), dtype=dtype, name="memory"
        )
        self.dropouts = {n: keras.layers.Dropout(dropout, dtype=dtype) for n in ("attention", "proposal", "gates")}

    def build(self, steps_shape):
        for modality in sorted(self.lstms):  # weights are drawn in this order, whatever that of the dict
            self.lstms[modality].build(steps_shape[modality]["values"])
        changes = 2 * sum(self.units.values())
        self.attention_hidden.build((None, None, changes))
        self.attention.build((None, None, self.attention_dim))
        self.proposal_hidden.build((None, None, changes))
        self.proposal.build((None, None, self.proposal_dim))
        self.gates_hidden.build((None, None, changes))
        self.memory.build((None, None, 4 * self.gate_dim + self.memory_dim))
        keep_frozen(self)

    def call(self, steps, training=None):
        values, lengths = align([steps[m] for m in self.units])
        mask = is_real(values[0], lengths)
        hidden, cells = [], []
        for modality, sequence in zip(self.units, values, strict=True):
            states, last, _ = self.lstms[modality](sequence, mask=mask, training=training)
            hidden.append(last)
            cells.append(states)
        attended = self.attend(ops.concatenate(cells, axis=-1), training)
        dropped = self.dropouts["proposal"](self.proposal_hidden(attended), training=training)
        gates = self.gates_hidden(attended)
        kept = self.dropouts["gates"](ops.ones_like(gates), training=training)  # drawn here, for no loop may draw
        memory = self.memory(ops.concatenate([gates, kept, self.proposal(dropped)], axis=-1), mask=mask)
        return ops.concatenate([*hidden, memory], axis=-1)

    def attend(self, cells, training=None):
        """The attended change of the LSTMs' cells `(batch, time, all units)`, one step to the next."""
        before = ops.concatenate([ops.zeros_like(cells[:, :1]), cells[:, :-1]], axis=1)
        changes = ops.concatenate([before, cells], axis=-1)
        dropped = self.dropouts["attention"](self.attention_hidden(changes), training=training)
        return self.attention(dropped) * changes

    def compute_output_shape(self, steps_shape):
        shape = next(iter(steps_shape.values()))["values"]
        return (shape[0], sum(self.units.values()) + self.memory_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "memory_dim": self.memory_dim,
            "attention_dim": self.attention_dim,
            "proposal_dim": self.proposal_dim,
            "gate_dim": self.gate_dim,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("keras_misa")
class CellStateLSTMCell(keras.layers.LSTMCell):
    """Keras's LSTM cell, which shows its cell state in place of its hidden one."""

    def call(self, inputs, states, training=False):
        _, states = super().call(inputs, states, training=training)
        return states[1], states


@keras.saving.register_keras_serializable("keras_misa")
class GatedMemoryCell(keras.layers.Layer):
    r"""One step of the gated memory.

    $$u_t = γ^1_t \odot u_{t-1} + γ^2_t \odot \hat u_t, \quad
    γ^k_t = σ(V_k\, \mathrm{ReLU}(a^k_t + U_k u_{t-1}) \odot d^k_t + b_k)$$

    Args:
        memory_dim: size of the memory u.
        gate_dim: hidden size of each gate's network.

    Call arguments:
        inputs: `(batch, 4 * gate_dim + memory_dim)`: $a^1, a^2, d^1, d^2$ (what dropout keeps) and $\hat u$.
        states: list of the memory, `(batch, memory_dim)`.

    Returns:
        Pair of the new memory and the list of it.
    """

    def __init__(self, memory_dim, gate_dim, **kwargs):
        super().__init__(**kwargs)
        self.memory_dim = memory_dim
        self.gate_dim = gate_dim
        self.state_size = memory_dim
        self.output_size = memory_dim

    def build(self, input_shape):
        self.recurrent_kernel = self.add_weight((self.memory_dim, 2 * self.gate_dim), name="recurrent_kernel")
        self.kernels = [self.add_weight((self.gate_dim, self.memory_dim), name=f"{gate}_kernel") for gate in GATES]
        self.biases = [self.add_weight((self.memory_dim,), initializer="zeros", name=f"{gate}_bias") for gate in GATES]

    def call(self, inputs, states):
        memory = states[0]
        width = 2 * self.gate_dim
        hidden, kept, proposal = inputs[:, :width], inputs[:, width : 2 * width], inputs[:, 2 * width :]
        hidden = ops.relu(hidden + ops.matmul(memory, self.recurrent_kernel)) * kept
        parts = hidden[:, : self.gate_dim], hidden[:, self.gate_dim :]
        retain, update = (
            ops.sigmoid(ops.matmul(part, kernel) + bias)
            for part, kernel, bias in zip(parts, self.kernels, self.biases, strict=True)
        )
        memory = retain * memory + update * proposal
        return memory, [memory]

    def get_config(self):
        return {**super().get_config(), "memory_dim": self.memory_dim, "gate_dim": self.gate_dim}
