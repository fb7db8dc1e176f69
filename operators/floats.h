// Products with matrices of floats, and the choice of experts, in plain C on vectors of eight floats: the same sums in
// the same order whatever the processor's registers.
#pragma once

#include "attend.h"

// out[n] = x . row n, for `count` rows of `columns` floats each, a multiple of LANES.
ALWAYS void dot_all(const float *x, const float *rows, int64_t count, int64_t columns, float *out) {
    for (int64_t at = 0; at < count; at += LANES) {
        const int64_t here = count - at < LANES ? count - at : LANES;
        float products[LANES];
        eight_scores(KEPT_FLOATS, x, rows, at, here, columns, products);
        memcpy(out + at, products, (size_t)here * sizeof(float));
    }
}

// out[k] = gate(x[k]) * x[columns + k]
ALWAYS void activate_all(const float *x, int64_t columns, Gate gate, float *out) {
    if (gate == GATE_SILU)
        for (int64_t k = 0; k < columns; k++) out[k] = gated(x[k], x[columns + k], GATE_SILU);
    else
        for (int64_t k = 0; k < columns; k++) out[k] = gated(x[k], x[columns + k], GATE_GELU);
}

// Of `scores`, one for each expert and with room for a multiple of LANES, those of the `used` best experts, best first
// and of equal ones the first. Scores become shares of softmax, or of each its sigmoid.
ALWAYS void choose(Routing routing, float *scores, int64_t *experts, float *weights) {
    const int64_t count = routing.experts;
    if (routing.sigmoid) {
        for (int64_t i = 0; i < count; i++) {
            const float z = scores[i] < -87.0f ? -87.0f : scores[i] > 87.0f ? 87.0f : scores[i];
            scores[i] = 1.0f / (1.0f + exponential(-z));
        }
    } else {
        const int64_t room = (count + LANES - 1) / LANES * LANES;
        for (int64_t i = count; i < room; i++) scores[i] = -INFINITY;
        const float sum = exponentials(scores, room);
        for (int64_t i = 0; i < count; i++) scores[i] /= sum;
    }
    float sum = 0.0f;
    for (int64_t chosen = 0; chosen < routing.used; chosen++) {
        int64_t best = 0;
        for (int64_t i = 1; i < count; i++)  // what is chosen becomes -1; a NaN is chosen where nothing else is left
            if (scores[i] > scores[best] || (scores[best] < 0.0f && !(scores[i] < 0.0f))) best = i;
        experts[chosen] = best;
        weights[chosen] = scores[best];
        sum += scores[best];
        scores[best] = -1.0f;
    }
    if (routing.normalised)
        for (int64_t chosen = 0; chosen < routing.used; chosen++) weights[chosen] /= sum;
}
