// The kernels for x86 with AVX2 and FMA.
//
// `vpmaddubsw` multiplies 32 codes and adds neighbours into 16 bits. A 4-bit code times an int8 is at most 15 * 127, so
// the sixteen products of a lane in a block stay below 2^15, and only once per block are lanes widened: half of what
// 8-bit codes cost, which have to be widened each time. Two planes of 4 bits make an 8-bit code at that price.
#include "blocks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "x86.h"

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("clang loop unroll(full)")

enum { HALVES = GROUP / 8, MAX_TILE = 4 };

INLINE __m256i four_inputs(const int8_t *inputs) {
    int32_t four;
    memcpy(&four, inputs, sizeof four);
    return _mm256_set1_epi32(four);
}

// Adds a plane's products in 16 bits: sums[r][half].
INLINE void add_plane(
    const uint8_t *plane, int block, const int8_t *inputs, int64_t row_bytes, int rows,
    __m256i sums[MAX_TILE][HALVES]) {
    const __m256i low = _mm256_set1_epi8(15);
    UNROLL for (int step = 0; step < block / 4; step++) {
        __m256i weights[HALVES];
        UNROLL for (int half = 0; half < HALVES; half++) {
            const uint8_t *at = plane + (step / 2 * HALVES + half) * 32;
            weights[half] = _mm256_loadu_si256((const __m256i *)at);
            if (step % 2) weights[half] = _mm256_srli_epi16(weights[half], 4);
            weights[half] = _mm256_and_si256(weights[half], low);
        }
        UNROLL for (int r = 0; r < rows; r++) {
            const __m256i x = four_inputs(inputs + r * row_bytes + 4 * step);
            UNROLL for (int half = 0; half < HALVES; half++) {
                const __m256i products = _mm256_maddubs_epi16(weights[half], x);
                sums[r][half] = step ? _mm256_add_epi16(sums[r][half], products) : products;
                // Keeps the compiler from collecting products, which would not fit the registers.
                __asm__("" : "+x"(sums[r][half]));
            }
        }
    }
}

INLINE void multiply_tile(
    const uint8_t *stored, int planes, bool offsets, int block, int64_t blocks,
    const int8_t *inputs, const float *steps, const float *input_sums, const int32_t *totals, int rows, float *y,
    int64_t stride) {
    const Matrix form = {.block = block, .planes = planes, .offsets = offsets};
    __m256 results[MAX_TILE][HALVES];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int half = 0; half < HALVES; half++) results[r][half] = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; b++, stored += block_bytes(&form)) {
        const uint8_t *plane = stored + planes_at(&form);
        const float *scales = (const float *)stored;
        __m256i sums[MAX_TILE][HALVES], wide[MAX_TILE][HALVES];
        add_plane(plane, block, inputs + b * block, blocks * block, rows, sums);
        UNROLL for (int r = 0; r < rows; r++)
            UNROLL for (int half = 0; half < HALVES; half++)
                wide[r][half] = _mm256_madd_epi16(sums[r][half], _mm256_set1_epi16(planes == 2 ? 16 : 1));
        if (planes == 2) {
            plane += plane_bytes(&form);
            add_plane(plane, block, inputs + b * block, blocks * block, rows, sums);
            UNROLL for (int r = 0; r < rows; r++)
                UNROLL for (int half = 0; half < HALVES; half++)
                    wide[r][half] = _mm256_add_epi32(
                        wide[r][half], _mm256_madd_epi16(sums[r][half], _mm256_set1_epi16(1)));
        }
        UNROLL for (int r = 0; r < rows; r++) {
            const int64_t at = r * blocks + b;
            UNROLL for (int half = 0; half < HALVES; half++) {
                __m256i sum = wide[r][half];
                if (!offsets)
                    sum = _mm256_sub_epi32(sum, _mm256_set1_epi32((planes == 2 ? 128 : 8) * totals[at]));
                const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(scales + 8 * half));
                results[r][half] = _mm256_fmadd_ps(scaled, _mm256_broadcast_ss(steps + at), results[r][half]);
                if (offsets)
                    results[r][half] = _mm256_fmadd_ps(
                        _mm256_loadu_ps(scales + GROUP + 8 * half), _mm256_broadcast_ss(input_sums + at),
                        results[r][half]);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int half = 0; half < HALVES; half++)
            _mm256_storeu_ps(y + r * stride + 8 * half, results[r][half]);
}

#define UP_TO_MAX_TILE UP_TO_4
#include "kernels.h"

bool avx2_kernels(Kernels *out) {
    if (!has_avx2()) return false;
    *out = (Kernels){quantise_row, multiply_group, attend_head};
    return true;
}
#else
bool avx2_kernels(Kernels *out) {
    (void)out;
    return false;
}
#endif
