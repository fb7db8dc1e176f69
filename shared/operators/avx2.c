// The kernels for x86 with AVX2 and FMA.
//
// `vpmaddubsw` multiplies 32 codes and adds neighbours into 16 bits. A 4-bit code times an int8 is at most 15 * 127, so
// the sixteen products of a lane in a block stay below 2^15, and only once per block are lanes widened: half of what
// 8-bit codes cost, which have to be widened each time. Two planes of 4 bits make an 8-bit code at that price.
#include "blocks.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#include "attend.h"

#define AVX2 __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) AVX2
#define UNROLL _Pragma("clang loop unroll(full)")

enum { HALVES = GROUP / 8 };

AVX2 static void quantise_row(const float *x, int64_t blocks, int block, Gate gate, Rows rows, int64_t row) {
    quantise_any(x, blocks, block, gate, rows, row);
}

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

// A function for each form of a matrix and number of rows, so that their loops unroll.
#define TILE(name, planes, offsets, block, rows)                                                                       \
    AVX2 static void name(const uint8_t *group, int64_t blocks, Rows in, int64_t row, float *y, int64_t stride) {      \
        const int64_t at = row * blocks;                                                                               \
        multiply_tile(                                                                                                 \
            group, planes, offsets, block, blocks, in.codes + at * (block), in.steps + at, in.sums + at,               \
            in.totals + at, rows, y, stride);                                                                          \
    }
#define TILES(name, planes, offsets, block)                                                                            \
    TILE(name##_1, planes, offsets, block, 1)                                                                          \
    TILE(name##_2, planes, offsets, block, 2)                                                                          \
    TILE(name##_3, planes, offsets, block, 3)                                                                          \
    TILE(name##_4, planes, offsets, block, 4)
#define FORMS(name, block)                                                                                             \
    TILES(name##_4bit, 1, false, block)                                                                                \
    TILES(name##_4bit_offset, 1, true, block)                                                                          \
    TILES(name##_8bit, 2, false, block)                                                                                \
    TILES(name##_8bit_offset, 2, true, block)
FORMS(block16, 16)
FORMS(block32, 32)

typedef void Tile(const uint8_t *, int64_t, Rows, int64_t, float *, int64_t);
#define ROWS(name) {name##_1, name##_2, name##_3, name##_4}
#define TABLE(name)                                                                                                    \
    {{ROWS(name##_4bit), ROWS(name##_4bit_offset)}, {ROWS(name##_8bit), ROWS(name##_8bit_offset)}}
static Tile *const TILE_OF[2][2][2][MAX_TILE] = {TABLE(block16), TABLE(block32)};

AVX2 static void multiply_group(
    const Matrix *matrix, const uint8_t *group, Rows inputs, int64_t first, int64_t rows, float *y, int64_t stride) {
    Tile *const *tiles = TILE_OF[matrix->block / 32][matrix->planes - 1][matrix->offsets];
    for (int64_t r = 0; r < rows; r += MAX_TILE) {
        const int64_t count = rows - r < MAX_TILE ? rows - r : MAX_TILE;
        tiles[count - 1](group, matrix->blocks, inputs, first + r, y + r * stride, stride);
    }
}

AVX2 static void attend_avx2(
    const float *query, const float *keys, const float *values, int64_t count, int64_t dimensions, float *scores,
    float *out) {
    attend(query, keys, values, count, dimensions, scores, out);
}

// Intel's manual, "Detection of AVX2": the processor has it, and the system keeps its registers. (The compiler's own
// __builtin_cpu_supports needs a runtime that not every linker brings.)
static bool has_avx2(void) {
    unsigned a, b, c, d, low, high;
    const unsigned fma = 1u << 12, saved = 1u << 27, avx2 = 1u << 5;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (fma | saved)) != (fma | saved)) return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & avx2) != 0;
}

bool avx2_kernels(Kernels *out) {
    if (!has_avx2()) return false;
    *out = (Kernels){quantise_row, multiply_group, attend_avx2};
    return true;
}
#else
bool avx2_kernels(Kernels *out) {
    (void)out;
    return false;
}
#endif
