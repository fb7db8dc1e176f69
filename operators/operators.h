// The operators, as `operators.c` gives them to ONNX Runtime.
#pragma once

#include "onnxruntime_abi.h"

// Attributes and shapes are checked here, so that a wrong graph is an error and not a crash.
OrtStatus *create_blocks(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out);
void destroy_blocks(void *kernel);
OrtStatus *multiply_blocks(void *kernel, OrtKernelContext *context);
OrtStatus *gather_blocks(void *kernel, OrtKernelContext *context);

OrtStatus *create_experts(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out);
void destroy_experts(void *kernel);
OrtStatus *multiply_experts(void *kernel, OrtKernelContext *context);

OrtStatus *create_router(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out);
void destroy_router(void *kernel);
OrtStatus *route_experts(void *kernel, OrtKernelContext *context);

OrtStatus *create_attention(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out);
void destroy_attention(void *kernel);
OrtStatus *attend_cached(void *kernel, OrtKernelContext *context);
