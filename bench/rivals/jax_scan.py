"""JAX: the whole step under jit, lax.scan over time, the input's product hoisted out of it."""

import os

from protocol import LEARNING_RATE, Unsupported, lengths, serve, threads

# XLA makes a pool of as many threads as there are processors to run on.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: threads()])

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def lstm(weights, state, gates):
    h, c = state
    i, f, g, o = jnp.split(gates + h @ weights["hh"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h @ weights["hr"] if "hr" in weights else h), c


def gru(weights, state, gates):
    (h,) = state
    of_x, of_h = jnp.split(gates, 3, axis=-1), jnp.split(h @ weights["hh"] + weights["b_hh"], 3, axis=-1)
    r, z = jax.nn.sigmoid(of_x[0] + of_h[0]), jax.nn.sigmoid(of_x[1] + of_h[1])
    n = jnp.tanh(of_x[2] + r * of_h[2])
    return ((1 - z) * n + z * h,)


def rnn(weights, state, gates):
    return (jnp.tanh(gates + state[0] @ weights["hh"]),)


CELLS = {"RNN": rnn, "GRU": gru, "LSTM": lstm}


def run_direction(cell, weights, x, mask, widths, reverse):
    """x (T, N, F) → (T, N, Ho); where mask (T, N, 1) is false the sequence has ended: the state stays, the output is 0."""
    bias = weights["b_ih"] if cell is gru else weights["b_ih"] + weights["b_hh"]
    gates = x @ weights["ih"] + bias
    start = tuple(jnp.zeros((x.shape[1], width), x.dtype) for width in widths)

    def step(state, now):
        if mask is None:
            state = cell(weights, state, now)
            return state, state[0]
        gates_now, runs = now
        state = tuple(jnp.where(runs, new, old) for new, old in zip(cell(weights, state, gates_now), state))
        return state, jnp.where(runs, state[0], 0)

    return jax.lax.scan(step, start, gates if mask is None else (gates, mask), reverse=reverse)[1]


def prepare(point):
    kind = point["module"]
    if kind not in CELLS:
        raise Unsupported("layers only")  # under scan a cell in a loop is the layer
    T, N, I, H, P = (point[k] for k in ("seq_len", "batch", "input_size", "hidden_size", "proj_size"))
    out, directions, dtype = P or H, 2 if point["bidirectional"] else 1, point["dtype"]
    widths = (out, H) if kind == "LSTM" else (out,)
    rng = np.random.default_rng(0)

    def uniform(*shape):
        return jnp.asarray(rng.uniform(-(H**-0.5), H**-0.5, shape), dtype)

    parameters = []
    for layer in range(point["num_layers"]):
        for _ in range(directions):
            rows, features = GATES[kind] * H, I if layer == 0 else directions * out
            weights = {"ih": uniform(features, rows), "hh": uniform(out, rows), "b_ih": uniform(rows), "b_hh": uniform(rows)}
            parameters.append({**weights, "hr": uniform(H, P)} if P else weights)
    x = jnp.asarray(rng.standard_normal((T, N, I)), dtype)
    weight = jnp.asarray(rng.standard_normal((T, N, directions * out)), dtype)
    mask = jnp.arange(T)[:, None, None] < jnp.asarray(lengths(point))[None, :, None] if point["packed"] else None

    def forward(parameters, x):
        for layer in range(point["num_layers"]):
            own = parameters[layer * directions : (layer + 1) * directions]
            outputs = [run_direction(CELLS[kind], w, x, mask, widths, d == 1) for d, w in enumerate(own)]
            x = jnp.concatenate(outputs, axis=-1)
        return x

    if point["forward_only"]:
        compiled = jax.jit(forward)
        return lambda: compiled(parameters, x).block_until_ready()

    def train(parameters, x):
        def loss(parameters, x):
            return jnp.sum(forward(parameters, x) * weight)

        grads = jax.grad(loss, argnums=(0, 1) if point["input_grad"] else (0,))(parameters, x)
        return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, parameters, grads[0]), grads[1:]

    compiled = jax.jit(train, donate_argnums=0)

    def step():
        nonlocal parameters
        parameters, others = compiled(parameters, x)
        jax.block_until_ready((parameters, others))

    return step


serve(jax.__version__, prepare)
