// The kernels in plain C, for any other processor: the same bits, slowly.
#include "floats.h"
#include "forms.h"

static void quantise_row(const float *x, int64_t blocks, int block, Gate gate, Rows rows, int64_t row) {
    quantise_any(x, blocks, block, gate, rows, row);
}

ALWAYS_INLINE void multiply(
    Form form, const Matrix *matrix, const uint8_t *group, Rows inputs, int64_t first, int64_t rows, float *y,
    int64_t stride) {
    for (int64_t r = 0; r < rows; r++)
        for (int feature = 0; feature < GROUP; feature++) {
            float result = 0;
            for (int64_t b = 0; b < matrix->blocks; b++) {
                const uint8_t *piece = group + (size_t)(b / form.count) * piece_bytes(form);
                const int block = (int)(b % form.count);
                const int64_t at = (first + r) * matrix->blocks + b;
                const int8_t *row = inputs.codes + at * form.block;
                int32_t sum = inputs.starts[at];
                for (int k = 0; k < form.block; k++) sum += code_at(form, piece, feature, block, k / 4, k % 4) * row[k];
                result = fmaf((float)sum * scale_at(form, piece, feature, block), inputs.steps[at], result);
                if (form.offsets) result = fmaf(offset_at(form, piece, feature, block), inputs.sums[at], result);
            }
            y[r * stride + feature] = result;
        }
}

#define MULTIPLY(name, form)                                                                                           \
    static void name(                                                                                                  \
        const Matrix *matrix, const uint8_t *group, Rows inputs, int64_t first, int64_t rows, float *y,                \
        int64_t stride) {                                                                                              \
        multiply(form, matrix, group, inputs, first, rows, y, stride);                                                 \
    }
FORMS(MULTIPLY)

#define NAMED(name, form) [FORM_##name] = name,
static MultiplyGroup *const MULTIPLY_OF[] = {FORMS(NAMED)};

static void multiply_group(
    const Matrix *matrix, const uint8_t *group, Rows inputs, int64_t first, int64_t rows, float *y, int64_t stride) {
    MULTIPLY_OF[index_of(matrix->form)](matrix, group, inputs, first, rows, y, stride);
}

static void attend_portable(
    bool halves, const float *query, const void *keys, const void *values, int64_t count, int64_t dimensions,
    float *scores, float *out) {
    if (halves)
        attend(KEPT_HALVES, query, keys, values, count, dimensions, scores, out);
    else
        attend(KEPT_FLOATS, query, keys, values, count, dimensions, scores, out);
}

static void keep(bool halves, const float *from, int64_t count, void *to, int64_t at) {
    keep_all(halves ? KEPT_HALVES : KEPT_FLOATS, from, count, to, at);
}

static void dot_rows(const float *x, const float *rows, int64_t count, int64_t columns, float *out) {
    dot_all(x, rows, count, columns, out);
}

static void activate_row(const float *x, int64_t columns, Gate gate, float *out) {
    activate_all(x, columns, gate, out);
}

static void choose_experts(Routing routing, float *scores, int64_t *experts, float *weights) {
    choose(routing, scores, experts, weights);
}

bool portable_kernels(Kernels *out) {
    *out = (Kernels){quantise_row, multiply_group, attend_portable, keep, dot_rows, activate_row, choose_experts};
    return true;
}
