// Which instructions an x86 processor has, and whether the system keeps their registers: Intel's manual, volume 1,
// "Detection of AVX2" and "Detection of AVX-512". (The compiler's own __builtin_cpu_supports needs a runtime that not
// every linker brings.)
#pragma once

#include <cpuid.h>
#include <stdbool.h>

enum {
    KEPT_AVX = 0x06,     // registers of 16 and 32 bytes
    KEPT_AVX512 = 0xe6,  // and of 64, and masks
};

// float16 of the cache: eight of them read, and written as `half_of` does (where either operand of a maximum or minimum
// is no number, the second is the result).
#define LOAD_HALVES(from) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from)))
#define STORE_HALVES(to, from)                                                                                         \
    _mm_storeu_si128(                                                                                                  \
        (__m128i *)(to),                                                                                               \
        _mm256_cvtps_ph(                                                                                               \
            _mm256_min_ps(_mm256_set1_ps(65504.0f), _mm256_max_ps(_mm256_set1_ps(-65504.0f), _mm256_loadu_ps(from))),  \
            _MM_FROUND_TO_NEAREST_INT))

// Whether the processor has all these features (of its leaf 7), FMA and F16C, and the system keeps those registers.
static inline bool has_features(unsigned ebx, unsigned ecx, unsigned kept) {
    const unsigned fma = 1u << 12, saved = 1u << 27, halves = 1u << 29, needed = fma | saved | halves;
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & needed) != needed) return false;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & kept) == kept && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & ebx) == ebx && (c & ecx) == ecx;
}

static inline bool has_avx2(void) {
    return has_features(1u << 5, 0, KEPT_AVX);
}

// F, BW and VL of AVX-512, and VNNI.
static inline bool has_avx512_vnni(void) {
    return has_features(1u << 16 | 1u << 30 | 1u << 31, 1u << 11, KEPT_AVX512);
}
