// Products with quantised matrices: the stored form, and what the parts of this library do with it.
//
// A matrix of N rows (output features) and K columns is cut into groups of GROUP rows, and each group along K into
// pieces of 32 or 256 columns: those of a GGUF's type (`ggml_type`), or the blocks of LLMOS's own form. Groups follow
// one another, pieces within a group too. A weight is `scale * (code - zero)`, or `scale * code + offset`; scale and
// offset belong to a row of a block of 16 or 32 columns.
//
// The piece of a GGUF's type has the bytes of GROUP rows of the file and no others (`types.h`): a float16 of each row,
// then the next of each row, then all else in words of four bytes, the first of each row, the second of each row, ...
// So 64 neighbouring bytes (32 with AVX2) hold codes of the same four columns of all rows, and meet the same four
// inputs in all their lanes. (Q5_0 and Q5_1 have their fifth bits in another order: bit s of byte k is that of column
// 4s + k.)
//
// LLMOS's own form has codes of 4 bits, or of 8 as two planes of 4, the high one first, and a piece of one block:
//
//     float32 scale[GROUP]
//     float32 offset[GROUP]                        only where the matrix has offsets
//     plane:  byte[j][row][k], j < block / 8, k < 4      low nibble: column 8j + k; high: 8j + 4 + k
//
// `layout.py` writes both forms.
//
// An input row is rounded to int8 by blocks: `x = step * code`. A block's product of codes is a sum of integers, and
// blocks are added in their order with the same fused operations whatever the number of rows at hand: a row's result
// has the same bits alone and in any batch, on any number of threads, with AVX-512, with AVX2 or with neither.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "types.h"

typedef struct {
    const uint8_t *groups;
    int64_t features;  // N
    int64_t blocks;    // K / block
    Form form;
} Matrix;

// Rows of inputs as int8; each array is [rows, blocks] but for codes, which is [rows, blocks * block].
typedef struct {
    int8_t *codes;
    float *steps;
    float *sums;      // step * the sum of the codes
    int32_t *starts;  // what a block's sum of products starts from: -zero * the sum of the codes
    int zero;         // the matrix's code that stands for 0
} Rows;

typedef enum { GATE_NONE = 0, GATE_SILU = 1, GATE_GELU = 2 } Gate;

// Round one row of `blocks * block` inputs. With a gate, x holds twice as many: the input is gate(x[k]) * x[K + k].
typedef void QuantiseRow(const float *x, int64_t blocks, int block, Gate gate, Rows rows, int64_t row);

// y[r, n] = sum over k of x[r, k] * w[n, k], for one group of n: `rows` inputs from `first` on, GROUP results each,
// `stride` apart.
typedef void MultiplyGroup(
    const Matrix *matrix, const uint8_t *group, Rows inputs, int64_t first, int64_t rows, float *y, int64_t stride);

// out = softmax(query . keys) . values, for `count` keys and values of `dimensions` each, a multiple of 8, which are
// float32 or (`halves`) float16; `scores` has room for `count` rounded up to 8.
typedef void Attend(
    bool halves, const float *query, const void *keys, const void *values, int64_t count, int64_t dimensions,
    float *scores, float *out);

// Writes `count` numbers, a multiple of 8, as the `at`-th and those behind it.
typedef void Keep(bool halves, const float *from, int64_t count, void *to, int64_t at);

// out[n] = x . row n, for `count` rows of `columns` floats each, a multiple of 8.
typedef void DotRows(const float *x, const float *rows, int64_t count, int64_t columns, float *out);

// out[k] = gate(x[k]) * x[columns + k]
typedef void ActivateRow(const float *x, int64_t columns, Gate gate, float *out);

// How a router's scores become a token's experts and their weights.
typedef struct {
    int64_t experts, used;
    bool sigmoid;     // each score by itself, where else all make shares of 1
    bool normalised;  // the weights of those that are used, to a sum of 1
} Routing;

// `scores` of all experts, with room for their number rounded up to 8; `used` experts and weights.
typedef void Choose(Routing routing, float *scores, int64_t *experts, float *weights);

typedef struct {
    QuantiseRow *quantise_row;
    MultiplyGroup *multiply_group;
    Attend *attend;
    Keep *keep;
    DotRows *dot_rows;
    ActivateRow *activate_row;
    Choose *choose;
} Kernels;

// Each is false where the processor lacks the instructions.
bool vnni_kernels(Kernels *out);
bool avx2_kernels(Kernels *out);
bool portable_kernels(Kernels *out);
