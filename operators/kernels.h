// The kernels of one kind of processor, made of what its file defines before it includes this:
//
//     TARGET           the attribute that gives functions its instructions
//     MAX_TILE         rows that one product takes at most
//     UP_TO_MAX_TILE   UP_TO_4 or UP_TO_8
//     multiply_tile    the product of a group with that many rows, inlined
//
// Each form of a matrix and each number of rows has a function of its own, so that its loops unroll. Rounding and
// attention are the plain code, built with those instructions.
#pragma once

#include "blocks.h"
#include "floats.h"
#include "forms.h"

#define UP_TO_4(each, ...) each(1, __VA_ARGS__) each(2, __VA_ARGS__) each(3, __VA_ARGS__) each(4, __VA_ARGS__)
#define UP_TO_8(each, ...)                                                                                             \
    UP_TO_4(each, __VA_ARGS__)                                                                                         \
    each(5, __VA_ARGS__) each(6, __VA_ARGS__) each(7, __VA_ARGS__) each(8, __VA_ARGS__)

#define TILE(rows, name, form)                                                                                         \
    TARGET static void name##_##rows(                                                                                  \
        const uint8_t *group, int64_t blocks, Rows in, int64_t row, float *y, int64_t stride) {                        \
        const int64_t at = row * blocks;                                                                               \
        multiply_tile(                                                                                                 \
            group, form, blocks, in.codes + at * (form).block, in.steps + at, in.sums + at, in.starts + at, rows, y,   \
            stride);                                                                                                   \
    }
#define TILES(name, form) UP_TO_MAX_TILE(TILE, name, form)
FORMS(TILES)

typedef void Tile(const uint8_t *, int64_t, Rows, int64_t, float *, int64_t);
#define NAMED(rows, name) name##_##rows,
#define COUNTS(name, form) [FORM_##name] = {UP_TO_MAX_TILE(NAMED, name)},
static Tile *const TILE_OF[][MAX_TILE] = {FORMS(COUNTS)};

TARGET static void multiply_group(
    const Matrix *matrix, const uint8_t *group, Rows inputs, int64_t first, int64_t rows, float *y, int64_t stride) {
    Tile *const *tiles = TILE_OF[index_of(matrix->form)];
    for (int64_t r = 0; r < rows; r += MAX_TILE) {
        const int64_t count = rows - r < MAX_TILE ? rows - r : MAX_TILE;
        tiles[count - 1](group, matrix->blocks, inputs, first + r, y + r * stride, stride);
    }
}

TARGET static void quantise_row(const float *x, int64_t blocks, int block, Gate gate, Rows rows, int64_t row) {
    quantise_any(x, blocks, block, gate, rows, row);
}

TARGET static void attend_head(
    bool halves, const float *query, const void *keys, const void *values, int64_t count, int64_t dimensions,
    float *scores, float *out) {
    if (halves)
        attend(KEPT_HALVES, query, keys, values, count, dimensions, scores, out);
    else
        attend(KEPT_FLOATS, query, keys, values, count, dimensions, scores, out);
}

TARGET static void keep(bool halves, const float *from, int64_t count, void *to, int64_t at) {
    keep_all(halves ? KEPT_HALVES : KEPT_FLOATS, from, count, to, at);
}

TARGET static void dot_rows(const float *x, const float *rows, int64_t count, int64_t columns, float *out) {
    dot_all(x, rows, count, columns, out);
}

TARGET static void activate_row(const float *x, int64_t columns, Gate gate, float *out) {
    activate_all(x, columns, gate, out);
}

TARGET static void choose_experts(Routing routing, float *scores, int64_t *experts, float *weights) {
    choose(routing, scores, experts, weights);
}
