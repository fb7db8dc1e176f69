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
