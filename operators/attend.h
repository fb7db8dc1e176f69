// Attention of one head at one position, in plain C on vectors of eight floats, whatever the processor's registers.
#pragma once

#include <string.h>

#include "row.h"

enum { LANES = 8, DIMENSIONS_AT_ONCE = 64 };

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t IntLanes __attribute__((vector_size(LANES * sizeof(int32_t))));

#ifdef TARGET
#define ALWAYS static inline __attribute__((always_inline)) TARGET
#else
#define ALWAYS static inline __attribute__((always_inline))
#endif

// How keys and values are kept.
typedef enum { KEPT_FLOATS, KEPT_HALVES } Kept;

ALWAYS void load(Lanes *out, const float *from) {
    memcpy(out, from, sizeof *out);
}

// Eight numbers from the `at`-th on. A float16 is exact in float32, so its bits are those of any processor.
ALWAYS void load_kept(Kept kept, Lanes *out, const void *from, int64_t at) {
    if (kept == KEPT_FLOATS) {
        load(out, (const float *)from + at);
        return;
    }
    const uint8_t *halves = (const uint8_t *)from + 2 * at;
#ifdef LOAD_HALVES
    *out = (Lanes)LOAD_HALVES(halves);
#else
    for (int lane = 0; lane < LANES; lane++) (*out)[lane] = half_to_float(halves + 2 * lane);
#endif
}

// Adds the lanes of two vectors in pairs: [a0 + a1, a2 + a3, b0 + b1, b2 + b3, a4 + a5, …].
#define PAIRS(a, b)                                                                                                    \
    (__builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +                                                        \
     __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15))

// query . key for `count` keys, up to eight, that follow one another from the `first` on (the last one's again for those that lack); each
// sum is made in the same order wherever its key lies.
ALWAYS void eight_scores(
    Kept kept, const float *query, const void *keys, int64_t first, int64_t count, int64_t dimensions, float *scores) {
    Lanes sums[LANES];
    for (int key = 0; key < LANES; key++) sums[key] = (Lanes){0};
    for (int64_t d = 0; d < dimensions; d += LANES) {
        Lanes q;
        load(&q, query + d);
        for (int key = 0; key < LANES; key++) {
            Lanes k;
            load_kept(kept, &k, keys, (first + (key < count ? key : count - 1)) * dimensions + d);
            sums[key] = __builtin_elementwise_fma(q, k, sums[key]);
        }
    }
    const Lanes low = PAIRS(PAIRS(sums[0], sums[1]), PAIRS(sums[2], sums[3]));
    const Lanes high = PAIRS(PAIRS(sums[4], sums[5]), PAIRS(sums[6], sums[7]));
    const Lanes all = __builtin_shufflevector(low, high, 0, 1, 2, 3, 8, 9, 10, 11) +
                      __builtin_shufflevector(low, high, 4, 5, 6, 7, 12, 13, 14, 15);
    memcpy(scores, &all, sizeof all);
}

// Adds scores[i] * values[i] over all `count` values, for `width` dimensions from the `first` on: eight vectors at most.
ALWAYS void add_values(
    Kept kept, const float *scores, const void *values, int64_t first, int64_t count, int64_t dimensions, int width,
    float scale, float *out) {
    Lanes sums[DIMENSIONS_AT_ONCE / LANES];
    for (int i = 0; i < width / LANES; i++) sums[i] = (Lanes){0};
    for (int64_t at = 0; at < count; at++) {
        const float score = scores[at];
        const Lanes weight = {score, score, score, score, score, score, score, score};
        for (int i = 0; i < width / LANES; i++) {
            Lanes v;
            load_kept(kept, &v, values, at * dimensions + first + i * LANES);
            sums[i] = __builtin_elementwise_fma(weight, v, sums[i]);
        }
    }
    for (int i = 0; i < width / LANES; i++) {
        sums[i] *= scale;
        memcpy(out + i * LANES, &sums[i], sizeof sums[i]);
    }
}

// Scores become e^(score - the largest), and their sum is returned: `count` of them, a multiple of LANES.
ALWAYS float exponentials(float *scores, int64_t count) {
    float most[LANES], sums[LANES] = {0};
    memcpy(most, scores, sizeof most);
    for (int64_t at = LANES; at < count; at += LANES)
        for (int lane = 0; lane < LANES; lane++)
            most[lane] = scores[at + lane] > most[lane] ? scores[at + lane] : most[lane];
    float largest = most[0];
    for (int lane = 1; lane < LANES; lane++) largest = most[lane] > largest ? most[lane] : largest;
    for (int64_t at = 0; at < count; at += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            const float below = scores[at + lane] - largest;
            const float power = exponential(below < -87.0f ? -87.0f : below);
            scores[at + lane] = power;
            sums[lane] += power;
        }
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// out = softmax(query . keys) . values, for `count` keys and values of `dimensions` each, a multiple of LANES.
// `scores` has room for `count` rounded up to LANES.
ALWAYS void attend(
    Kept kept, const float *query, const void *keys, const void *values, int64_t count, int64_t dimensions,
    float *scores, float *out) {
    int64_t at = 0;
    for (; at + LANES <= count; at += LANES) eight_scores(kept, query, keys, at, LANES, dimensions, scores + at);
    if (at < count) {
        eight_scores(kept, query, keys, at, count - at, dimensions, scores + at);
        // e^-infinity is taken as 2e-38, which changes no bit of a sum that is 1 or more.
        for (int64_t more = count; more < at + LANES; more++) scores[more] = -INFINITY;
        at += LANES;
    }
    const float scale = 1.0f / exponentials(scores, at);
    int64_t d = 0;
    for (; d + DIMENSIONS_AT_ONCE <= dimensions; d += DIMENSIONS_AT_ONCE)
        add_values(kept, scores, values, d, count, dimensions, DIMENSIONS_AT_ONCE, scale, out + d);
    for (; d < dimensions; d += LANES) add_values(kept, scores, values, d, count, dimensions, LANES, scale, out + d);
}

// float32 to float16, to the nearest and of two to the even one; what is beyond the largest becomes the largest.
static inline uint16_t half_of(float value) {
    const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00);  // no number
    if (size >= 0x477ff000) return (uint16_t)(sign | 0x7bff);
    if (size < 0x38800000) {  // below the normal ones: whole multiples of 2^-24
        return (uint16_t)(sign | (uint32_t)__builtin_rintf(float_of(size) * 0x1p+24f));
    }
    return (uint16_t)(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
}

// Keeps `count` floats, a multiple of LANES, from the `at`-th number on.
ALWAYS void keep_all(Kept kept, const float *from, int64_t count, void *to, int64_t at) {
    if (kept == KEPT_FLOATS) {
        memcpy((float *)to + at, from, (size_t)count * sizeof(float));
        return;
    }
    uint16_t *halves = (uint16_t *)to + at;
#ifdef STORE_HALVES
    for (int64_t i = 0; i < count; i += LANES) STORE_HALVES(halves + i, from + i);
#else
    for (int64_t i = 0; i < count; i++) halves[i] = half_of(from[i]);
#endif
}
