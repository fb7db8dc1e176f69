// The kernels for x86 with AVX-512 and VNNI.
//
// `vpdpbusd` multiplies 64 codes by four inputs each and adds them to sixteen sums of 32 bits: one for each feature of a
// group, with nothing to widen.
#include "blocks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "x86.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,fma,f16c")))
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

INLINE __m512i word_at(const uint8_t *words, int word) {
    return _mm512_loadu_si512(words + (size_t)word * GROUP * 4);
}

// The codes of four columns, each in a byte.
INLINE __m512i codes_of(Form form, const uint8_t *words, Place place) {
    const __m512i low = _mm512_set1_epi8(15), own = word_at(words, place.low);
    if (form.type == Q8_0) return _mm512_xor_si512(own, _mm512_set1_epi8(-128));
    const __m512i shifted = place.shift ? _mm512_srli_epi16(own, 4) : own;
    if (form.type == IQ4_NL || form.type == IQ4_XS)
        return _mm512_shuffle_epi8(
            _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)IQ4_TABLE)), _mm512_and_si512(shifted, low));
    if (place.high < 0) return _mm512_and_si512(shifted, low);
    const __m512i above = word_at(words, place.high);
    const __m512i high = place.bit < 4   ? _mm512_slli_epi16(above, 4 - place.bit)
                         : place.bit > 4 ? _mm512_srli_epi16(above, place.bit - 4)
                                         : above;
    if (form.bits == 8)
        return _mm512_ternarylogic_epi32(
            low, shifted, high, 0xca);  // where `low` is 1 bits of `shifted`, else of `high`
    const __m512i bits = _mm512_set1_epi8((char)((1 << form.bits) - 16));
    return _mm512_ternarylogic_epi32(_mm512_and_si512(shifted, low), high, bits, 0xf8);  // the first, or both others
}

INLINE __m512 floats_of(const uint8_t *halves) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)halves));
}

// The scales and offsets of all blocks of a piece.
INLINE void read_scales(Form form, const uint8_t *piece, __m512 *scales, __m512 *offsets) {
    if (form.type == OWN) {
        scales[0] = _mm512_loadu_ps(piece);
        if (form.offsets) offsets[0] = _mm512_loadu_ps(piece + GROUP * sizeof(float));
        return;
    }
    const uint8_t *words = words_of(form, piece);
    const __m512 scale = floats_of(piece);
    if (form.count == 1) {
        scales[0] = scale;
        if (form.offsets) offsets[0] = floats_of(piece + GROUP * 2);
    } else if (form.offsets) {  // Q4_K, Q5_K: small integers of 6 bits
        const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8(48), six = _mm512_set1_epi8(63);
        const __m512i first = word_at(words, 0), second = word_at(words, 1), third = word_at(words, 2);
        const __m512i small[2] = {
            _mm512_and_si512(first, six),
            _mm512_or_si512(_mm512_and_si512(third, low), _mm512_and_si512(_mm512_srli_epi16(first, 2), high))};
        const __m512i least[2] = {
            _mm512_and_si512(second, six), _mm512_or_si512(
                                               _mm512_and_si512(_mm512_srli_epi16(third, 4), low),
                                               _mm512_and_si512(_mm512_srli_epi16(second, 2), high))};
        const __m512i byte = _mm512_set1_epi32(255), sign = _mm512_set1_epi32(INT32_MIN);
        const __m512 minus =
            _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(floats_of(piece + GROUP * 2)), sign));
    UNROLL for (int b = 0; b < 8; b++) {
            const __m512i s = _mm512_and_si512(_mm512_srli_epi32(small[b / 4], b % 4 * 8), byte);
            const __m512i t = _mm512_and_si512(_mm512_srli_epi32(least[b / 4], b % 4 * 8), byte);
            scales[b] = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(s));
            offsets[b] = _mm512_mul_ps(minus, _mm512_cvtepi32_ps(t));
        }
    } else if (form.type == Q6_K) {
        UNROLL for (int b = 0; b < 16; b++) {
            const __m512i above = _mm512_slli_epi32(word_at(words, 48 + b / 4), 24 - b % 4 * 8);
            scales[b] = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_srai_epi32(above, 24)));
        }
    } else {  // IQ4_XS: 4 bits in a word, the 2 above in 16 bits
        const __m512i four = word_at(words, 0);
        const __m512i two = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(piece + GROUP * 2)));
        UNROLL for (int b = 0; b < 8; b++) {
            const __m512i low = _mm512_and_si512(_mm512_srli_epi32(four, b * 4), _mm512_set1_epi32(15));
            const __m512i high = _mm512_and_si512(_mm512_srli_epi32(two, b * 2), _mm512_set1_epi32(3));
            const __m512i s = _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
            scales[b] = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_sub_epi32(s, _mm512_set1_epi32(32))));
        }
    }
}

INLINE void multiply_tile(
    const uint8_t *piece, Form form, int64_t blocks, const int8_t *inputs, const float *steps,
    const float *input_sums, const int32_t *starts, int rows, float *y, int64_t stride) {
    const int64_t row_bytes = blocks * form.block;
    const int unrolled = blocks_alike(form);
    const size_t block_bytes = piece_bytes(form) / form.count;
    __m512 results[MAX_TILE];
    UNROLL for (int r = 0; r < rows; r++) results[r] = _mm512_setzero_ps();
    for (int64_t b = 0; b < blocks; piece += piece_bytes(form)) {
        __m512 scales[MAX_BLOCKS], offsets[MAX_BLOCKS];
        read_scales(form, piece, scales, offsets);
        for (unsigned outer = 0; outer < (unsigned)form.count; outer += unrolled)
            UNROLL for (int inner = 0; inner < unrolled; inner++, b++) {
                const unsigned block = outer + inner;
                __m512i sums[MAX_TILE];
                if (rows == MAX_TILE)  // with fewer rows the processor's own prefetching keeps up: 2 % for nothing
                    UNROLL for (size_t line = 0; line < block_bytes; line += 64)
                        _mm_prefetch((const char *)piece + AHEAD + block * block_bytes + line, _MM_HINT_T0);
                UNROLL for (int r = 0; r < rows; r++)
                    sums[r] = form.offsets ? _mm512_setzero_si512() : _mm512_set1_epi32(starts[r * blocks + b]);
                UNROLL for (int step = 0; step < form.block / 4; step++) {
                    const __m512i codes = codes_of(form, words_of(form, piece), place_of(form, block, step));
                    UNROLL for (int r = 0; r < rows; r++)
                        sums[r] = _mm512_dpbusd_epi32(
                            sums[r], codes, four_inputs(inputs + r * row_bytes + b * form.block + 4 * step));
                }
                UNROLL for (int r = 0; r < rows; r++) {
                    const int64_t at = r * blocks + b;
                    const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]), scales[block]);
                    results[r] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(steps[at]), results[r]);
                    if (form.offsets)
                        results[r] = _mm512_fmadd_ps(offsets[block], _mm512_set1_ps(input_sums[at]), results[r]);
                }
            }
    }
    UNROLL for (int r = 0; r < rows; r++) _mm512_storeu_ps(y + r * stride, results[r]);
}

#define UP_TO_MAX_TILE UP_TO_8
#include "kernels.h"

bool vnni_kernels(Kernels *out) {
    if (!has_avx512_vnni()) return false;
    *out = (Kernels){quantise_row, multiply_group, attend_head, keep, dot_rows, activate_row, choose_experts};
    return true;
}
#else
bool vnni_kernels(Kernels *out) {
    (void)out;
    return false;
}
#endif
