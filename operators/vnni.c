// The kernels for x86 with AVX-512 and VNNI.
//
// `vpdpbusd` multiplies 64 codes by four inputs each and adds them to sixteen sums of 32 bits: one for each feature of a
// group, with nothing to widen. The two planes of 8-bit codes are put together first.
#include "blocks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "x86.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("clang loop unroll(full)")

enum {
    MAX_TILE = 8,
    AHEAD = 8192,  // bytes: where a full tile fetches the matrix from memory while it multiplies
};

INLINE __m512i four_inputs(const int8_t *inputs) {
    int32_t four;
    memcpy(&four, inputs, sizeof four);
    return _mm512_set1_epi32(four);
}

// The codes of four columns, each in a byte: of the first four of a plane's eight, or the last.
INLINE __m512i codes_of(const uint8_t *plane, int planes, int block, bool last) {
    const __m512i low = _mm512_set1_epi8(15), own = _mm512_loadu_si512(plane);
    if (planes == 1) return _mm512_and_si512(last ? _mm512_srli_epi16(own, 4) : own, low);
    const __m512i below = _mm512_loadu_si512(plane + (size_t)GROUP * block / 2);
    const __m512i high = last ? own : _mm512_slli_epi16(own, 4), rest = last ? _mm512_srli_epi16(below, 4) : below;
    return _mm512_ternarylogic_epi32(low, rest, high, 0xca);  // where `low` is 1 bits of `rest`, else of `high`
}

INLINE void multiply_tile(
    const uint8_t *stored, int planes, bool offsets, int block, int64_t blocks, const int8_t *inputs,
    const float *steps, const float *input_sums, const int32_t *totals, int rows, float *y, int64_t stride) {
    const Matrix form = {.block = block, .planes = planes, .offsets = offsets};
    const int64_t row_bytes = blocks * block;
    __m512 results[MAX_TILE];
    UNROLL for (int r = 0; r < rows; r++) results[r] = _mm512_setzero_ps();
    for (int64_t b = 0; b < blocks; b++, stored += block_bytes(&form)) {
        const float *scales = (const float *)stored;
        __m512i sums[MAX_TILE];
        if (rows == MAX_TILE)  // with fewer rows the processor's own prefetching keeps up, and this would cost 2 %
            UNROLL for (size_t line = 0; line < block_bytes(&form); line += 64)
                _mm_prefetch((const char *)stored + AHEAD + line, _MM_HINT_T0);
        UNROLL for (int r = 0; r < rows; r++)
            sums[r] = offsets ? _mm512_setzero_si512()
                              : _mm512_set1_epi32((planes == 2 ? -128 : -8) * totals[r * blocks + b]);
        UNROLL for (int step = 0; step < block / 4; step++) {
            const __m512i codes =
                codes_of(stored + planes_at(&form) + step / 2 * GROUP * 4, planes, block, step % 2);
            UNROLL for (int r = 0; r < rows; r++)
                sums[r] = _mm512_dpbusd_epi32(
                    sums[r], codes, four_inputs(inputs + r * row_bytes + b * block + 4 * step));
        }
        UNROLL for (int r = 0; r < rows; r++) {
            const int64_t at = r * blocks + b;
            const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]), _mm512_loadu_ps(scales));
            results[r] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(steps[at]), results[r]);
            if (offsets)
                results[r] =
                    _mm512_fmadd_ps(_mm512_loadu_ps(scales + GROUP), _mm512_set1_ps(input_sums[at]), results[r]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) _mm512_storeu_ps(y + r * stride, results[r]);
}

#define UP_TO_MAX_TILE UP_TO_8
#include "kernels.h"

bool vnni_kernels(Kernels *out) {
    if (!has_avx512_vnni()) return false;
    *out = (Kernels){quantise_row, multiply_group, attend_head};
    return true;
}
#else
bool vnni_kernels(Kernels *out) {
    (void)out;
    return false;
}
#endif
