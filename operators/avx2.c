// The kernels for x86 with AVX2 and FMA.
//
// `vpmaddubsw` multiplies 32 codes and adds neighbours into 16 bits. A 4-bit code times an int8 is at most 15 * 127, so
// the sixteen products of a lane in a block stay below 2^15, and only once per block are lanes widened: half of what
// 8-bit codes cost, which have to be widened each time. Two planes of 4 bits make an 8-bit code at that price. Codes of 5
// and 6 bits are widened after four and two products of neighbours.
#include "blocks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "x86.h"

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define UNROLL _Pragma("clang loop unroll(full)")

enum { HALVES = GROUP / 8, MAX_TILE = 4 };

INLINE __m256i four_inputs(const int8_t *inputs) {
    int32_t four;
    memcpy(&four, inputs, sizeof four);
    return _mm256_set1_epi32(four);
}

INLINE __m256i word_at(const uint8_t *words, int word, int half) {
    return _mm256_loadu_si256((const __m256i *)(words + (size_t)(word * HALVES + half) * 32));
}

INLINE __m256i shifted_right(__m256i values, int bits) {
    return bits > 0 ? _mm256_srli_epi16(values, bits) : bits < 0 ? _mm256_slli_epi16(values, -bits) : values;
}

// The codes of four columns of eight rows, each in a byte; of 8 bits the upper four (plane 0) or the lower.
INLINE __m256i codes_of(Form form, const uint8_t *words, Place place, int plane, int half) {
    const __m256i low = _mm256_set1_epi8(15), own = word_at(words, place.low, half);
    const __m256i code = _mm256_and_si256(shifted_right(own, place.shift), low);
    if (form.type == Q8_0) {
        const __m256i raised = _mm256_xor_si256(own, _mm256_set1_epi8(-128));
        return _mm256_and_si256(shifted_right(raised, plane == 0 ? 4 : 0), low);
    }
    if (form.type == IQ4_NL || form.type == IQ4_XS) {
        const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)IQ4_TABLE));
        return _mm256_shuffle_epi8(_mm256_and_si256(shifted_right(table, plane == 0 ? 4 : 0), low), code);
    }
    if (place.high < 0 || (form.bits == 8 && plane == 1)) return code;
    const __m256i above = word_at(words, place.high, half);
    if (form.bits == 8) return _mm256_and_si256(shifted_right(above, place.bit), low);
    const __m256i bits = _mm256_set1_epi8((char)((1 << form.bits) - 16));
    return _mm256_or_si256(code, _mm256_and_si256(shifted_right(above, place.bit - 4), bits));
}

// Adds a plane's products: in 16 bits as long as they fit, then wide[r][half].
INLINE void add_plane(
    Form form, const uint8_t *words, unsigned block, int plane, const int8_t *inputs, int64_t row_bytes, int rows,
    __m256i wide[MAX_TILE][HALVES]) {
    const int fitting = form.bits == 6 ? 2 : form.bits == 5 ? 4 : 8;
    const __m256i ones = _mm256_set1_epi16(form.bits == 8 && plane == 0 ? 16 : 1);
    __m256i sums[MAX_TILE][HALVES];
    UNROLL for (int step = 0; step < form.block / 4; step++) {
        const Place place = place_of(form, block, step);
        __m256i weights[HALVES];
        UNROLL for (int half = 0; half < HALVES; half++) weights[half] = codes_of(form, words, place, plane, half);
        const bool first = step % fitting == 0, last = (step + 1) % fitting == 0 || step + 1 == form.block / 4;
        UNROLL for (int r = 0; r < rows; r++) {
            const __m256i x = four_inputs(inputs + r * row_bytes + 4 * step);
            UNROLL for (int half = 0; half < HALVES; half++) {
                const __m256i products = _mm256_maddubs_epi16(weights[half], x);
                sums[r][half] = first ? products : _mm256_add_epi16(sums[r][half], products);
                // Keeps the compiler from collecting products, which would not fit the registers.
                __asm__("" : "+x"(sums[r][half]));
                if (last)
                    wide[r][half] = _mm256_add_epi32(wide[r][half], _mm256_madd_epi16(sums[r][half], ones));
            }
        }
    }
}

INLINE __m256 floats_of(const uint8_t *halves, int half) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(halves + 16 * half)));
}

// The scales and offsets of all blocks of a piece, of eight rows.
INLINE void read_scales(
    Form form, const uint8_t *piece, int half, __m256 scales[][HALVES], __m256 offsets[][HALVES]) {
    if (form.type == OWN) {
        scales[0][half] = _mm256_loadu_ps((const float *)piece + 8 * half);
        if (form.offsets) offsets[0][half] = _mm256_loadu_ps((const float *)piece + GROUP + 8 * half);
        return;
    }
    const uint8_t *words = words_of(form, piece);
    const __m256 scale = floats_of(piece, half);
    if (form.count == 1) {
        scales[0][half] = scale;
        if (form.offsets) offsets[0][half] = floats_of(piece + GROUP * 2, half);
    } else if (form.offsets) {  // Q4_K, Q5_K: small integers of 6 bits
        const __m256i low = _mm256_set1_epi8(15), high = _mm256_set1_epi8(48), six = _mm256_set1_epi8(63);
        const __m256i first = word_at(words, 0, half), second = word_at(words, 1, half);
        const __m256i third = word_at(words, 2, half);
        const __m256i small[2] = {
            _mm256_and_si256(first, six),
            _mm256_or_si256(_mm256_and_si256(third, low), _mm256_and_si256(shifted_right(first, 2), high))};
        const __m256i least[2] = {
            _mm256_and_si256(second, six),
            _mm256_or_si256(
                _mm256_and_si256(shifted_right(third, 4), low), _mm256_and_si256(shifted_right(second, 2), high))};
        const __m256i byte = _mm256_set1_epi32(255);
        const __m256 minus = _mm256_xor_ps(floats_of(piece + GROUP * 2, half), _mm256_set1_ps(-0.0f));
        UNROLL for (int b = 0; b < 8; b++) {
            const __m256i s = _mm256_and_si256(_mm256_srli_epi32(small[b / 4], b % 4 * 8), byte);
            const __m256i t = _mm256_and_si256(_mm256_srli_epi32(least[b / 4], b % 4 * 8), byte);
            scales[b][half] = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(s));
            offsets[b][half] = _mm256_mul_ps(minus, _mm256_cvtepi32_ps(t));
        }
    } else if (form.type == Q6_K) {
        UNROLL for (int b = 0; b < 16; b++) {
            const __m256i above = _mm256_slli_epi32(word_at(words, 48 + b / 4, half), 24 - b % 4 * 8);
            scales[b][half] = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_srai_epi32(above, 24)));
        }
    } else {  // IQ4_XS: 4 bits in a word, the 2 above in 16 bits
        const __m256i four = word_at(words, 0, half);
        const __m256i two = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(piece + GROUP * 2) + half));
        UNROLL for (int b = 0; b < 8; b++) {
            const __m256i low = _mm256_and_si256(_mm256_srli_epi32(four, b * 4), _mm256_set1_epi32(15));
            const __m256i high = _mm256_and_si256(_mm256_srli_epi32(two, b * 2), _mm256_set1_epi32(3));
            const __m256i s = _mm256_or_si256(low, _mm256_slli_epi32(high, 4));
            scales[b][half] =
                _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_sub_epi32(s, _mm256_set1_epi32(32))));
        }
    }
}

INLINE void multiply_tile(
    const uint8_t *piece, Form form, int64_t blocks, const int8_t *inputs, const float *steps,
    const float *input_sums, const int32_t *starts, int rows, float *y, int64_t stride) {
    const int unrolled = blocks_alike(form);
    __m256 results[MAX_TILE][HALVES];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int half = 0; half < HALVES; half++) results[r][half] = _mm256_setzero_ps();
    for (int64_t b = 0; b < blocks; piece += piece_bytes(form)) {
        __m256 scales[MAX_BLOCKS][HALVES], offsets[MAX_BLOCKS][HALVES];
        UNROLL for (int half = 0; half < HALVES; half++) read_scales(form, piece, half, scales, offsets);
        for (unsigned outer = 0; outer < (unsigned)form.count; outer += unrolled)
            UNROLL for (int inner = 0; inner < unrolled; inner++, b++) {
                const unsigned block = outer + inner;
                __m256i wide[MAX_TILE][HALVES];
                UNROLL for (int r = 0; r < rows; r++)
                    UNROLL for (int half = 0; half < HALVES; half++)
                        wide[r][half] =
                            form.offsets ? _mm256_setzero_si256() : _mm256_set1_epi32(starts[r * blocks + b]);
                UNROLL for (int plane = 0; plane < (form.bits == 8 ? 2 : 1); plane++)
                    add_plane(
                        form, words_of(form, piece), block, plane, inputs + b * form.block, blocks * form.block, rows,
                        wide);
                UNROLL for (int r = 0; r < rows; r++) {
                    const int64_t at = r * blocks + b;
                    UNROLL for (int half = 0; half < HALVES; half++) {
                        const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(wide[r][half]), scales[block][half]);
                        results[r][half] =
                            _mm256_fmadd_ps(scaled, _mm256_broadcast_ss(steps + at), results[r][half]);
                        if (form.offsets)
                            results[r][half] = _mm256_fmadd_ps(
                                offsets[block][half], _mm256_broadcast_ss(input_sums + at), results[r][half]);
                    }
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
    *out = (Kernels){quantise_row, multiply_group, attend_head, keep, dot_rows, activate_row, choose_experts};
    return true;
}
#else
bool avx2_kernels(Kernels *out) {
    (void)out;
    return false;
}
#endif
