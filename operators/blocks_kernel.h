// What the operators that read a matrix in blocks share.
#pragma once

#include "operators.h"
#include "runtime.h"

enum { ROWS_AT_ONCE = 128 };  // inputs that a group's codes meet while both lie in a processor's own cache

typedef struct {
    const OrtApi *api;
    OrtAllocator *allocator;
    Kernels kernels;
    int64_t features, columns, gate;
    Form form;
} BlocksKernel;

// N, K and gate.
OrtStatus *read_sizes(const OrtApi *api, const OrtKernelInfo *info, BlocksKernel *out);

// Those, and how the matrix is stored.
OrtStatus *read_blocks(const OrtApi *api, const OrtKernelInfo *info, BlocksKernel *out);

OrtStatus *read_matrix(const BlocksKernel *kernel, const OrtKernelContext *context, size_t index, Matrix *out);

// One row of a group of the matrix as floats, K of them.
void gather_row(const Matrix *matrix, const uint8_t *group, int row, float *out);

static inline size_t group_bytes(const Matrix *matrix) {
    return (size_t)matrix->blocks / matrix->form.count * piece_bytes(matrix->form);
}

// Memory of `count` inputs in int8.
static inline size_t rows_bytes(int64_t count, int64_t blocks, Form form) {
    const size_t all = (size_t)(count * blocks);
    return rounded(all * form.block) + 2 * rounded(all * sizeof(float)) + rounded(all * sizeof(int32_t));
}

static inline Rows rows_in(uint8_t *memory, int64_t count, int64_t blocks, Form form) {
    const size_t all = (size_t)(count * blocks), codes = rounded(all * form.block),
                 floats = rounded(all * sizeof(float));
    return (Rows){
        .codes = (int8_t *)memory,
        .steps = (float *)(memory + codes),
        .sums = (float *)(memory + codes + floats),
        .starts = (int32_t *)(memory + codes + 2 * floats),
        .zero = zero_of(form),
    };
}
