"""The C functions that steps are made of. Each may call those above it; a policy's file has only those it needs."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBERS = {
    "sigmoid": """
/* The logistic function; exp sees no positive number, so it can't overflow. */
static float sigmoid(float x)
{
    float e = expf(x < 0.0f ? x : -x);
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}
""",
    "log_sigmoid": """
static float log_sigmoid(float x)
{
    return (x < 0.0f ? x : 0.0f) - log1pf(expf(x < 0.0f ? x : -x));
}
""",
    "clamp": """
static float clamp(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}
""",
    "clamp_double": """
static double clamp_double(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}
""",
    "normalised": """
/* An observed number in deviations from its mean, up to 10. */
static float normalised(float x, float mean, float scale)
{
    return clamp((x - mean) * scale, -10.0f, 10.0f);
}
""",
    "normalised_double": """
/* An observed number in deviations from its mean, up to 10; a large mean needs the digits of a double. */
static float normalised_double(double x, double mean, double scale)
{
    return (float)clamp_double((x - mean) * scale, -10.0, 10.0);
}
""",
    "one_hot": """
/* Write a one-hot vector, of zeros if there is no such symbol; return the place behind it. */
static float *one_hot(float *at, int64_t symbol, int count)
{
    for (int i = 0; i < count; i++)
        at[i] = i == symbol ? 1.0f : 0.0f;
    return at + count;
}
""",
}

_LAYERS = {
    "dot": """
/* Four sums, so that none waits for the one before. */
static float dot(const float *a, const float *b, int size)
{
    float sum_0 = 0.0f, sum_1 = 0.0f, sum_2 = 0.0f, sum_3 = 0.0f;
    int i = 0;
    for (; i + 4 <= size; i += 4) {
        sum_0 += a[i] * b[i];
        sum_1 += a[i + 1] * b[i + 1];
        sum_2 += a[i + 2] * b[i + 2];
        sum_3 += a[i + 3] * b[i + 3];
    }
    for (; i < size; i++)
        sum_0 += a[i] * b[i];
    return (sum_0 + sum_1) + (sum_2 + sum_3);
}
""",
    "linear": """
/* y = W x + b; W has a row for every output. */
static void linear(const float *weight, const float *bias, const float *x, int num_inputs, float *y, int num_outputs)
{
    for (int i = 0; i < num_outputs; i++, weight += num_inputs)
        y[i] = bias[i] + dot(weight, x, num_inputs);
}
""",
    "add_product": """
/* y += R h */
static void add_product(const float *weight, const float *h, int size, float *y, int num_outputs)
{
    for (int i = 0; i < num_outputs; i++, weight += size)
        y[i] += dot(weight, h, size);
}
""",
    "tanh_layer": """
/* y = tanh(W x + b) */
static void tanh_layer(const float *weight, const float *bias, const float *x, int num_inputs, float *y, int size)
{
    linear(weight, bias, x, num_inputs, y, size);
    for (int i = 0; i < size; i++)
        y[i] = tanhf(y[i]);
}
""",
    "highway": """
/* y = t tanh(a) + (1 - t) x, with a and the gate t from one product. */
static void highway(const float *weight, const float *bias, const float *x, int num_inputs, float *y, int size,
                    float *both)
{
    linear(weight, bias, x, num_inputs, both, 2 * size);
    for (int i = 0; i < size; i++)
        y[i] = x[i] + sigmoid(both[size + i]) * (tanhf(both[i]) - x[i]);
}
""",
    "layer_norm": """
static void layer_norm(const float *weight, const float *bias, const float *x, float *y, int size)
{
    float mean = 0.0f, variance = 0.0f;
    for (int i = 0; i < size; i++)
        mean += x[i] / (float)size;
    for (int i = 0; i < size; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (float)size;
    for (int i = 0; i < size; i++)
        y[i] = (x[i] - mean) / sqrtf(variance + 1e-5f) * weight[i] + bias[i];
}
""",
    "add": """
/* y = a + b */
static void add(const float *a, const float *b, float *y, int size)
{
    for (int i = 0; i < size; i++)
        y[i] = a[i] + b[i];
}
""",
}

_CELLS = {
    "lstm": """
static void lstm(const float *weight_ih, const float *weight_hh, const float *bias, const float *x, int num_inputs,
                 float *h, float *c, int size, float *gates)
{
    linear(weight_ih, bias, x, num_inputs, gates, 4 * size);
    add_product(weight_hh, h, size, gates, 4 * size);
    for (int i = 0; i < size; i++) {
        float input_gate = sigmoid(gates[i]);
        float forget_gate = sigmoid(gates[size + i]);
        float cell_input = tanhf(gates[2 * size + i]);
        float output_gate = sigmoid(gates[3 * size + i]);
        c[i] = forget_gate * c[i] + input_gate * cell_input;
        h[i] = output_gate * tanhf(c[i]);
    }
}
""",
    "peephole_lstm": """
/* The output gate sees the new memory, the others the old one. */
static void peephole_lstm(const float *weight_ih, const float *weight_hh, const float *bias, const float *peepholes,
                          const float *x, int num_inputs, float *h, float *c, int size, float *gates)
{
    linear(weight_ih, bias, x, num_inputs, gates, 4 * size);
    add_product(weight_hh, h, size, gates, 4 * size);
    for (int i = 0; i < size; i++) {
        float input_gate = sigmoid(gates[i] + peepholes[i] * c[i]);
        float forget_gate = sigmoid(gates[size + i] + peepholes[size + i] * c[i]);
        float cell_input = tanhf(gates[2 * size + i]);
        c[i] = forget_gate * c[i] + input_gate * cell_input;
        h[i] = sigmoid(gates[3 * size + i] + peepholes[2 * size + i] * c[i]) * tanhf(c[i]);
    }
}
""",
    "mix_by_gates": """
/* Open the gates of a GRU and mix; the reset gate acts on what comes from the state. */
static void mix_by_gates(const float *from_input, const float *from_state, float *h, int size)
{
    for (int i = 0; i < size; i++) {
        float reset_gate = sigmoid(from_input[i] + from_state[i]);
        float update_gate = sigmoid(from_input[size + i] + from_state[size + i]);
        float fresh = tanhf(from_input[2 * size + i] + reset_gate * from_state[2 * size + i]);
        h[i] = fresh + update_gate * (h[i] - fresh);
    }
}
""",
    "gru": """
/* The reset gate acts after the product with the state. */
static void gru(const float *weight_ih, const float *weight_hh, const float *bias_ih, const float *bias_hh,
                const float *x, int num_inputs, float *h, int size, float *gates)
{
    float *from_state = gates + 3 * size;
    linear(weight_ih, bias_ih, x, num_inputs, gates, 3 * size);
    linear(weight_hh, bias_hh, h, size, from_state, 3 * size);
    mix_by_gates(gates, from_state, h, size);
}
""",
    "ln_gru": """
/* Those of r and z are normalised together, those of the candidate apart, and input and state apart. */
static void ln_gru(const float *weight_ih, const float *weight_hh, const float *gain_ih, const float *bias_ih,
                   const float *gain_hh, const float *bias_hh, const float *x, int num_inputs, float *h, int size,
                   float *gates)
{
    float *from_state = gates + 3 * size;
    for (int i = 0; i < 6 * size; i++)
        gates[i] = 0.0f;
    add_product(weight_ih, x, num_inputs, gates, 3 * size);
    add_product(weight_hh, h, size, from_state, 3 * size);
    layer_norm(gain_ih, bias_ih, gates, gates, 2 * size);
    layer_norm(gain_ih + 2 * size, bias_ih + 2 * size, gates + 2 * size, gates + 2 * size, size);
    layer_norm(gain_hh, bias_hh, from_state, from_state, 2 * size);
    layer_norm(gain_hh + 2 * size, bias_hh + 2 * size, from_state + 2 * size, from_state + 2 * size, size);
    mix_by_gates(gates, from_state, h, size);
}
""",
    "elman": """
static void elman(const float *weight_ih, const float *weight_hh, const float *bias, const float *x, int num_inputs,
                  float *h, int size, float *gates)
{
    linear(weight_ih, bias, x, num_inputs, gates, size);
    add_product(weight_hh, h, size, gates, size);
    for (int i = 0; i < size; i++)
        h[i] = tanhf(gates[i]);
}
""",
    "candidate": """
/* What a minimal cell may take in: x itself, or a number that is never negative. */
static float candidate(float x, int is_positive)
{
    return !is_positive ? x : x >= 0.0f ? x + 0.5f : sigmoid(x);
}
""",
    "min_gru": """
static void min_gru(const float *weight, const float *bias, const float *x, int num_inputs, float *h, int size,
                    float *gates, int is_positive)
{
    linear(weight, bias, x, num_inputs, gates, 2 * size);
    for (int i = 0; i < size; i++) {
        float keep = sigmoid(-gates[i]);
        float fresh = candidate(gates[size + i], is_positive);
        h[i] = fresh + keep * (h[i] - fresh);
    }
}
""",
    "min_lstm": """
/* keep = f / (f + i), from logarithms, which neither overflow nor divide by 0. */
static void min_lstm(const float *weight, const float *bias, const float *x, int num_inputs, float *h, int size,
                     float *gates, int is_positive)
{
    linear(weight, bias, x, num_inputs, gates, 3 * size);
    for (int i = 0; i < size; i++) {
        float keep = sigmoid(log_sigmoid(gates[i]) - log_sigmoid(gates[size + i]));
        float fresh = candidate(gates[2 * size + i], is_positive);
        h[i] = fresh + keep * (h[i] - fresh);
    }
}
""",
}

_ACTIONS = {
    "choose": """
/* The place of the largest logit that is allowed, or, with noise, a draw from the softmax (Gumbel). */
static int choose(const float *logits, const uint8_t *mask, const float *noise, int size)
{
    int best = 0;
    float largest = -INFINITY;
    for (int i = 0; i < size; i++) {
        float score = mask == NULL || mask[i] ? logits[i] : -1e9f;
        if (noise != NULL)
            score -= logf(-logf(noise[i]));
        if (score > largest) {
            largest = score;
            best = i;
        }
    }
    return best;
}
""",
}

_ALL = _NUMBERS | _LAYERS | _CELLS | _ACTIONS

FUNCTIONS: dict[str, str] = {name: f"{text.strip()}\n" for name, text in _ALL.items()}
"""Definitions by name, in an order in which they can stand in a file."""


def needed(names: Iterable[str]) -> list[str]:
    """Return the definitions of functions and of all that they call, in order."""
    found, waiting = set[str](), set(names)
    while waiting:
        found |= waiting
        called = {name for one in waiting for name in re.findall(r"\b(\w+)\(", FUNCTIONS[one])}
        waiting = (called & FUNCTIONS.keys()) - found
    return [text for name, text in FUNCTIONS.items() if name in found]
