// The part of ONNX Runtime's C ABI that these operators use, so that they build without its headers.
//
// The ABI is stable: functions are only ever appended to OrtApi (onnxruntime_c_api.h), so each has its place in that
// table for good. OrtCustomOp is read up to the fields that its `version` promises.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtApi OrtApi;

typedef struct OrtAllocator {
    uint32_t version;
    void *(*Alloc)(struct OrtAllocator *, size_t bytes);
    void (*Free)(struct OrtAllocator *, void *);
} OrtAllocator;

typedef struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

enum { ORT_API_VERSION_USED = 18 };  // the first with KernelInfoGetAllocator
enum { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT32 = 6, ORT_INT64 = 7, ORT_FLOAT16 = 10 };
enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum { ORT_INPUT_REQUIRED = 0, ORT_INPUT_OPTIONAL = 1 };

typedef struct OrtCustomOp OrtCustomOp;
struct OrtCustomOp {
    uint32_t version;
    void *(*CreateKernel)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *);  // not called from version 16
    const char *(*GetName)(const OrtCustomOp *);
    const char *(*GetExecutionProviderType)(const OrtCustomOp *);
    int (*GetInputType)(const OrtCustomOp *, size_t index);
    size_t (*GetInputTypeCount)(const OrtCustomOp *);
    int (*GetOutputType)(const OrtCustomOp *, size_t index);
    size_t (*GetOutputTypeCount)(const OrtCustomOp *);
    void (*KernelCompute)(void *, OrtKernelContext *);  // not called from version 16
    void (*KernelDestroy)(void *kernel);
    int (*GetInputCharacteristic)(const OrtCustomOp *, size_t index);
    int (*GetOutputCharacteristic)(const OrtCustomOp *, size_t index);
    int (*GetInputMemoryType)(const OrtCustomOp *, size_t index);
    int (*GetVariadicInputMinArity)(const OrtCustomOp *);
    int (*GetVariadicInputHomogeneity)(const OrtCustomOp *);
    int (*GetVariadicOutputMinArity)(const OrtCustomOp *);
    int (*GetVariadicOutputHomogeneity)(const OrtCustomOp *);
    OrtStatus *(*CreateKernelV2)(const OrtCustomOp *, const OrtApi *, const OrtKernelInfo *, void **kernel);
    OrtStatus *(*KernelComputeV2)(void *kernel, OrtKernelContext *);
};
enum { ORT_CUSTOM_OP_VERSION = 16 };

struct OrtApi {
    OrtStatus *(*CreateStatus)(int code, const char *message);
    void *before_CreateCustomOpDomain[25];
    OrtStatus *(*CreateCustomOpDomain)(const char *domain, OrtCustomOpDomain **out);
    OrtStatus *(*CustomOpDomain_Add)(OrtCustomOpDomain *, const OrtCustomOp *);
    OrtStatus *(*AddCustomOpDomain)(OrtSessionOptions *, OrtCustomOpDomain *);
    void *before_GetTensorMutableData[22];
    OrtStatus *(*GetTensorMutableData)(OrtValue *, void **out);
    void *before_GetDimensionsCount[9];
    OrtStatus *(*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *, size_t *out);
    OrtStatus *(*GetDimensions)(const OrtTensorTypeAndShapeInfo *, int64_t *values, size_t count);
    void *before_GetTensorShapeElementCount[1];
    OrtStatus *(*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo *, size_t *out);
    OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtTensorTypeAndShapeInfo **out);
    void *before_KernelInfoGetAttribute_float[19];
    OrtStatus *(*KernelInfoGetAttribute_float)(const OrtKernelInfo *, const char *name, float *out);
    OrtStatus *(*KernelInfoGetAttribute_int64)(const OrtKernelInfo *, const char *name, int64_t *out);
    void *before_KernelContext_GetInputCount[1];
    OrtStatus *(*KernelContext_GetInputCount)(const OrtKernelContext *, size_t *out);
    void *before_KernelContext_GetInput[1];
    OrtStatus *(*KernelContext_GetInput)(const OrtKernelContext *, size_t index, const OrtValue **out);
    OrtStatus *(*KernelContext_GetOutput)(
        OrtKernelContext *, size_t index, const int64_t *dimensions, size_t rank, OrtValue **out);
    void *before_ReleaseStatus[1];
    void (*ReleaseStatus)(OrtStatus *);
    void *before_ReleaseTensorTypeAndShapeInfo[5];
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *);
    void *before_ReleaseAllocator[32];
    void (*ReleaseAllocator)(OrtAllocator *);
    void *before_KernelContext_ParallelFor[141];
    OrtStatus *(*KernelContext_ParallelFor)(
        const OrtKernelContext *, void (*)(void *, size_t), size_t total, size_t batches, void *);
    void *before_KernelInfoGetAllocator[3];
    OrtStatus *(*KernelInfoGetAllocator)(const OrtKernelInfo *, int memory_type, OrtAllocator **out);
};
