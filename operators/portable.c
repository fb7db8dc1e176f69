// The kernels in plain C, for any other processor: the same bits, slowly.
#include "attend.h"

static void quantise_row(const float *x, int64_t blocks, int block, Gate gate, Rows rows, int64_t row) {
    quantise_any(x, blocks, block, gate, rows, row);
}

static int32_t product(const uint8_t *plane, int block, int feature, const int8_t *inputs) {
    int32_t sum = 0;
    for (int j = 0; j < block / 8; j++) {
        const uint8_t *bytes = plane + (j * GROUP + feature) * 4;
        for (int k = 0; k < 4; k++)
            sum += (bytes[k] & 15) * inputs[8 * j + k] + (bytes[k] >> 4) * inputs[8 * j + 4 + k];
    }
    return sum;
}

static void multiply_group(
    const Matrix *matrix, const uint8_t *group, Rows inputs, int64_t first, int64_t rows, float *y, int64_t stride) {
    const int zero = matrix->planes == 1 ? 8 : 128;
    const size_t bytes = block_bytes(matrix);
    for (int64_t r = 0; r < rows; r++)
        for (int feature = 0; feature < GROUP; feature++) {
            float result = 0;
            const uint8_t *block = group;
            for (int64_t b = 0; b < matrix->blocks; b++, block += bytes) {
                const int64_t at = (first + r) * matrix->blocks + b;
                const float *scales = (const float *)block;
                const uint8_t *plane = block + planes_at(matrix);
                const int8_t *row = inputs.codes + at * matrix->block;
                int32_t sum = product(plane, matrix->block, feature, row);
                if (matrix->planes == 2)
                    sum = 16 * sum + product(plane + plane_bytes(matrix), matrix->block, feature, row);
                if (!matrix->offsets) sum -= zero * inputs.totals[at];
                result = fmaf((float)sum * scales[feature], inputs.steps[at], result);
                if (matrix->offsets) result = fmaf(scales[GROUP + feature], inputs.sums[at], result);
            }
            y[r * stride + feature] = result;
        }
}

static void attend_portable(
    const float *query, const float *keys, const float *values, int64_t count, int64_t dimensions, float *scores,
    float *out) {
    attend(query, keys, values, count, dimensions, scores, out);
}

bool portable_kernels(Kernels *out) {
    *out = (Kernels){quantise_row, multiply_group, attend_portable};
    return true;
}
