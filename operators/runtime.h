// What operators share: their inputs, their threads, the choice of kernels.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "onnxruntime_abi.h"

#ifndef MAX_SHARDS
#error "build.py defines MAX_SHARDS"
#endif

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        OrtStatus *status = (call);                                                                                    \
        if (status != NULL) return status;                                                                             \
    } while (0)

enum {
    WORTH_SHARING = 1 << 19,  // multiplications that take longer than waking a thread
    SHARD = 1 << 16           // multiplications of a part: small, so that a thread which comes late leaves the rest
};

// The best kernels that the processor has, or those that LLMOS_KERNELS names.
static inline OrtStatus *choose_kernels(const OrtApi *api, Kernels *out) {
    const struct {
        const char *name;
        bool (*get)(Kernels *);
    } all[] = {{"vnni", vnni_kernels}, {"avx2", avx2_kernels}, {"portable", portable_kernels}};
    const char *named = getenv("LLMOS_KERNELS");
    const bool any = named == NULL || *named == '\0';
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if ((any || strcmp(named, all[i].name) == 0) && all[i].get(out)) return NULL;
    return api->CreateStatus(
        ORT_INVALID_ARGUMENT, "LLMOS_KERNELS names none of vnni, avx2, portable, or one that this processor lacks");
}

// Whether a node has the attribute, which is read then.
static inline bool has_attribute(const OrtApi *api, const OrtKernelInfo *info, const char *name, int64_t *out) {
    OrtStatus *absent = api->KernelInfoGetAttribute_int64(info, name, out);
    if (absent != NULL) api->ReleaseStatus(absent);
    return absent == NULL;
}

typedef struct {
    const void *data;  // NULL: the input was left out
    int64_t dimensions[8];
    size_t rank;
    int64_t elements;
} Input;

static inline OrtStatus *read_input(const OrtApi *api, const OrtKernelContext *context, size_t index, Input *out) {
    const OrtValue *value = NULL;
    TRY(api->KernelContext_GetInput(context, index, &value));
    *out = (Input){.elements = 1};
    if (value == NULL) return NULL;
    void *data = NULL;
    TRY(api->GetTensorMutableData((OrtValue *)value, &data));
    out->data = data;
    OrtTensorTypeAndShapeInfo *info = NULL;
    TRY(api->GetTensorTypeAndShape(value, &info));
    OrtStatus *status = api->GetDimensionsCount(info, &out->rank);
    if (status == NULL && out->rank > 8) status = api->CreateStatus(ORT_INVALID_ARGUMENT, "more than 8 dimensions");
    if (status == NULL) status = api->GetDimensions(info, out->dimensions, out->rank);
    api->ReleaseTensorTypeAndShapeInfo(info);
    for (size_t i = 0; status == NULL && i < out->rank; i++) out->elements *= out->dimensions[i];
    return status;
}

static inline int64_t shards_for(int64_t work, int64_t most) {
    if (work < WORTH_SHARING) return 1;
    const int64_t shards = work / SHARD;
    most = most < MAX_SHARDS ? most : MAX_SHARDS;
    return shards > most ? most : shards;
}

static inline OrtStatus *share(
    const OrtApi *api, const OrtKernelContext *context, void (*work)(void *, size_t), int64_t shards, void *product) {
    if (shards > 1) return api->KernelContext_ParallelFor(context, work, (size_t)shards, 0, product);
    work(product, 0);
    return NULL;
}

static inline size_t rounded(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}
