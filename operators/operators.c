// The operators as ONNX Runtime sees them, in the domain "llmos".
#include "operators.h"

enum { MOST_INPUTS = 9, MOST_OUTPUTS = 3 };

// An operator's inputs and outputs: their types, and whether an input may be left out.
typedef struct {
    OrtCustomOp op;  // first, so that ONNX Runtime's pointer to it is one to the whole
    const char *name;
    size_t inputs, outputs;
    int input_types[MOST_INPUTS], output_types[MOST_OUTPUTS];
    bool optional[MOST_INPUTS];
} Operator;

static const Operator *whole(const OrtCustomOp *op) {
    return (const Operator *)op;
}

static const char *name_of(const OrtCustomOp *op) {
    return whole(op)->name;
}

static const char *provider(const OrtCustomOp *op) {
    (void)op;
    return "CPUExecutionProvider";
}

static size_t inputs_of(const OrtCustomOp *op) {
    return whole(op)->inputs;
}

static size_t outputs_of(const OrtCustomOp *op) {
    return whole(op)->outputs;
}

static int input_type(const OrtCustomOp *op, size_t index) {
    return whole(op)->input_types[index];
}

static int output_type(const OrtCustomOp *op, size_t index) {
    return whole(op)->output_types[index];
}

static int input_characteristic(const OrtCustomOp *op, size_t index) {
    return whole(op)->optional[index] ? ORT_INPUT_OPTIONAL : ORT_INPUT_REQUIRED;
}

static int zero_of(const OrtCustomOp *op, size_t index) {
    (void)op, (void)index;
    return 0;
}

static int zero(const OrtCustomOp *op) {
    (void)op;
    return 0;
}

#define OPERATOR(create, compute, destroy)                                                                             \
    {                                                                                                                  \
        .version = ORT_CUSTOM_OP_VERSION,                                                                              \
        .GetName = name_of,                                                                                            \
        .GetExecutionProviderType = provider,                                                                          \
        .GetInputType = input_type,                                                                                    \
        .GetInputTypeCount = inputs_of,                                                                                \
        .GetOutputType = output_type,                                                                                  \
        .GetOutputTypeCount = outputs_of,                                                                              \
        .KernelDestroy = destroy,                                                                                      \
        .GetInputCharacteristic = input_characteristic,                                                                \
        .GetOutputCharacteristic = zero_of,                                                                            \
        .GetInputMemoryType = zero_of,                                                                                 \
        .GetVariadicInputMinArity = zero,                                                                              \
        .GetVariadicInputHomogeneity = zero,                                                                           \
        .GetVariadicOutputMinArity = zero,                                                                             \
        .GetVariadicOutputHomogeneity = zero,                                                                          \
        .CreateKernelV2 = create,                                                                                      \
        .KernelComputeV2 = compute,                                                                                    \
    }

// Keys and values may be kept in either type.
#define ATTENTION(kept)                                                                                                \
    {                                                                                                                  \
        .op = OPERATOR(create_attention, attend_cached, destroy_attention),                                            \
        .name = "CachedAttention",                                                                                     \
        .inputs = 9,                                                                                                   \
        .outputs = 3,                                                                                                  \
        .input_types = {ORT_FLOAT, ORT_FLOAT, ORT_FLOAT, kept, kept, ORT_INT32, ORT_FLOAT, ORT_FLOAT, ORT_INT32},      \
        .output_types = {ORT_FLOAT, kept, kept},                                                                       \
        .optional = {false, true, true, false, false, false, true, true, true},                                        \
    }

static const Operator OPERATORS[] = {
    {
        .op = OPERATOR(create_blocks, multiply_blocks, destroy_blocks),
        .name = "MatMulBlocks",
        .inputs = 3,
        .outputs = 1,
        .input_types = {ORT_FLOAT, ORT_UINT8, ORT_FLOAT},
        .output_types = {ORT_FLOAT},
        .optional = {false, false, true},
    },
    {
        .op = OPERATOR(create_blocks, gather_blocks, destroy_blocks),
        .name = "GatherBlocks",
        .inputs = 2,
        .outputs = 1,
        .input_types = {ORT_INT64, ORT_UINT8},
        .output_types = {ORT_FLOAT},
    },
    {
        .op = OPERATOR(create_experts, multiply_experts, destroy_experts),
        .name = "MatMulExperts",
        .inputs = 4,
        .outputs = 1,
        .input_types = {ORT_FLOAT, ORT_INT64, ORT_UINT8, ORT_FLOAT},
        .output_types = {ORT_FLOAT},
        .optional = {false, false, false, true},
    },
    {
        .op = OPERATOR(create_router, route_experts, destroy_router),
        .name = "RouteExperts",
        .inputs = 2,
        .outputs = 2,
        .input_types = {ORT_FLOAT, ORT_FLOAT},
        .output_types = {ORT_INT64, ORT_FLOAT},
    },
    ATTENTION(ORT_FLOAT),
    ATTENTION(ORT_FLOAT16),
};

// Called by ONNX Runtime for each session's options. The domain lives as long as the process, as sessions may.
__attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(
    OrtSessionOptions *options, const OrtApiBase *base) {
    static OrtCustomOpDomain *domain = NULL;
    const OrtApi *api = base->GetApi(ORT_API_VERSION_USED);
    if (domain == NULL) {
        OrtCustomOpDomain *made = NULL;
        OrtStatus *status = api->CreateCustomOpDomain("llmos", &made);
        for (size_t i = 0; status == NULL && i < sizeof OPERATORS / sizeof OPERATORS[0]; i++)
            status = api->CustomOpDomain_Add(made, &OPERATORS[i].op);
        if (status != NULL) return status;
        domain = made;
    }
    return api->AddCustomOpDomain(options, domain);
}
