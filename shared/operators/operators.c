// The operators as ONNX Runtime sees them: domain "llmos", `MatMulBlocks` and `GatherBlocks`.
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "onnxruntime_abi.h"

#define TRY(call)                         \
    do {                                  \
        OrtStatus *status = (call);       \
        if (status != NULL) return status; \
    } while (0)

enum { WORK = 1 << 18 };       // multiplications that are worth handing to a thread
enum { ROWS_AT_ONCE = 128 };   // inputs that a group's codes meet while both lie in a processor's own cache

typedef struct {
    const OrtApi *api;
    OrtAllocator *allocator;
    Kernels kernels;
    int64_t features, columns, bits, block, offsets, gate;
} Kernel;

static Kernels best_kernels(void) {
    const char *wanted = getenv("LLMOS_KERNELS");
    Kernels kernels;
    if (wanted != NULL && strcmp(wanted, "portable") == 0) return portable_kernels();
    return avx2_kernels(&kernels) ? kernels : portable_kernels();
}

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    (void)op;
    Kernel kernel = {.api = api, .kernels = best_kernels()};
    TRY(api->KernelInfoGetAttribute_int64(info, "N", &kernel.features));
    TRY(api->KernelInfoGetAttribute_int64(info, "K", &kernel.columns));
    TRY(api->KernelInfoGetAttribute_int64(info, "bits", &kernel.bits));
    TRY(api->KernelInfoGetAttribute_int64(info, "block", &kernel.block));
    TRY(api->KernelInfoGetAttribute_int64(info, "offsets", &kernel.offsets));
    TRY(api->KernelInfoGetAttribute_int64(info, "gate", &kernel.gate));
    if (kernel.block != 16 && kernel.block != 32)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "block must be 16 or 32");
    if (kernel.features < 1 || kernel.columns < 1 || kernel.columns % kernel.block != 0)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "N must be positive and K a multiple of block");
    if (kernel.bits != 4 && kernel.bits != 8) return api->CreateStatus(ORT_INVALID_ARGUMENT, "bits must be 4 or 8");
    if (kernel.gate < GATE_NONE || kernel.gate > GATE_GELU)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "gate must be 0 (none), 1 (SiLU) or 2 (GELU)");
    TRY(api->KernelInfoGetAllocator(info, 0, &kernel.allocator));
    Kernel *kept = malloc(sizeof *kept);
    if (kept == NULL) return api->CreateStatus(ORT_FAIL, "no memory");
    *kept = kernel;
    *out = kept;
    return NULL;
}

static void destroy(void *kept) {
    Kernel *kernel = kept;
    kernel->api->ReleaseAllocator(kernel->allocator);
    free(kernel);
}

typedef struct {
    const void *data;
    int64_t dimensions[8];
    size_t rank;
    int64_t elements;
} Input;

static OrtStatus *read_input(const OrtApi *api, const OrtKernelContext *context, size_t index, Input *out) {
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

static OrtStatus *read_matrix(const Kernel *kernel, const OrtKernelContext *context, size_t index, Matrix *out) {
    Input stored;
    TRY(read_input(kernel->api, context, index, &stored));
    *out = (Matrix){
        .groups = stored.data,
        .features = kernel->features,
        .blocks = kernel->columns / kernel->block,
        .block = (int)kernel->block,
        .planes = (int)kernel->bits / 4,
        .offsets = kernel->offsets != 0,
    };
    const int64_t groups = (kernel->features + GROUP - 1) / GROUP;
    if (stored.elements != groups * out->blocks * (int64_t)block_bytes(out))
        return kernel->api->CreateStatus(ORT_INVALID_ARGUMENT, "the matrix has not the bytes that N, K and bits ask for");
    return NULL;
}

// One multiplication, as the threads that share it see it.
typedef struct {
    const Kernel *kernel;
    Matrix matrix;
    const float *x, *bias;
    float *y;
    int64_t rows, groups, shards, quantise_shards;
    Rows inputs;
    uint8_t *codes;  // of each shard
    size_t codes_bytes;
} Product;

static void quantise_shard(void *argument, size_t shard) {
    const Product *product = argument;
    const int64_t width = product->kernel->columns * (product->kernel->gate == GATE_NONE ? 1 : 2);
    const int64_t first = product->rows * (int64_t)shard / product->quantise_shards;
    const int64_t end = product->rows * ((int64_t)shard + 1) / product->quantise_shards;
    for (int64_t row = first; row < end; row++)
        product->kernel->kernels.quantise_row(
            product->x + row * width, product->matrix.blocks, product->matrix.block, (Gate)product->kernel->gate, product->inputs, row);
}

static void add_bias(const Product *product, int64_t feature, int64_t count, float *y, int64_t stride, int64_t rows) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < count; i++) y[r * stride + i] += product->bias[feature + i];
}

static void multiply_rows(const Product *product, int64_t group, int64_t first, int64_t rows, uint8_t *codes) {
    const Matrix *matrix = &product->matrix;
    const uint8_t *stored = matrix->groups + (size_t)group * matrix->blocks * block_bytes(matrix);
    MultiplyGroup *multiply = product->kernel->kernels.multiply_group;
    const int64_t feature = group * GROUP, stride = matrix->features;
    const int64_t count = stride - feature < GROUP ? stride - feature : GROUP;
    float *y = product->y + first * stride + feature;
    if (count == GROUP) {
        multiply(matrix, stored, product->inputs, first, rows, codes, y, stride);
    } else {  // the last group has fewer features than results
        float results[ROWS_AT_ONCE * GROUP];
        multiply(matrix, stored, product->inputs, first, rows, codes, results, GROUP);
        for (int64_t r = 0; r < rows; r++) memcpy(y + r * stride, results + r * GROUP, count * sizeof(float));
    }
    if (product->bias != NULL) add_bias(product, feature, count, y, stride, rows);
}

static void multiply_shard(void *argument, size_t shard) {
    const Product *product = argument;
    const int64_t from = product->groups * (int64_t)shard / product->shards;
    const int64_t to = product->groups * ((int64_t)shard + 1) / product->shards;
    uint8_t *codes = product->codes + shard * product->codes_bytes;
    for (int64_t first = 0; first < product->rows; first += ROWS_AT_ONCE) {
        const int64_t left = product->rows - first, rows = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
        for (int64_t group = from; group < to; group++) multiply_rows(product, group, first, rows, codes);
    }
}

static int64_t shards_for(int64_t work, int64_t most) {
    const int64_t shards = work / WORK;
    return shards < 1 ? 1 : shards > most ? most : shards;
}

static OrtStatus *share(
    const OrtApi *api, const OrtKernelContext *context, void (*work)(void *, size_t), int64_t shards, void *product) {
    if (shards > 1) return api->KernelContext_ParallelFor(context, work, (size_t)shards, 0, product);
    work(product, 0);
    return NULL;
}

static size_t rounded(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

static OrtStatus *multiply(void *kept, OrtKernelContext *context) {
    const Kernel *kernel = kept;
    const OrtApi *api = kernel->api;
    Input x, bias = {0};
    Product product = {.kernel = kernel};
    size_t inputs = 0;
    TRY(read_input(api, context, 0, &x));
    TRY(read_matrix(kernel, context, 1, &product.matrix));
    TRY(api->KernelContext_GetInputCount(context, &inputs));
    if (inputs > 2) TRY(read_input(api, context, 2, &bias));
    const int64_t width = kernel->columns * (kernel->gate == GATE_NONE ? 1 : 2);
    if (x.rank < 1 || x.dimensions[x.rank - 1] != width)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "the input's last dimension is not K (2 K with a gate)");
    if (bias.data != NULL && bias.elements != kernel->features)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "the bias has not N values");
    product.x = x.data;
    product.bias = bias.data;
    product.rows = x.elements / width;
    product.groups = (kernel->features + GROUP - 1) / GROUP;
    x.dimensions[x.rank - 1] = kernel->features;
    OrtValue *output = NULL;
    void *y = NULL;
    TRY(api->KernelContext_GetOutput(context, 0, x.dimensions, x.rank, &output));
    TRY(api->GetTensorMutableData(output, &y));
    if (product.rows == 0) return NULL;
    product.y = y;

    const int64_t blocks = product.matrix.blocks, all = product.rows * blocks;
    product.shards = shards_for(product.rows * kernel->features * kernel->columns, product.groups);
    product.quantise_shards = shards_for(product.rows * kernel->columns * 8, product.rows);
    product.codes_bytes = rounded((size_t)(GROUP * kernel->columns * product.matrix.planes));
    const size_t sizes[] = {all * kernel->block, all * sizeof(float), all * sizeof(float), all * sizeof(int32_t)};
    size_t bytes = product.codes_bytes * (size_t)product.shards;
    for (int i = 0; i < 4; i++) bytes += rounded(sizes[i]);
    uint8_t *memory = kernel->allocator->Alloc(kernel->allocator, bytes);
    if (memory == NULL) return api->CreateStatus(ORT_FAIL, "no memory for a multiplication's inputs");
    uint8_t *at = memory;
    product.inputs.codes = (int8_t *)at;
    product.inputs.steps = (float *)(at += rounded(sizes[0]));
    product.inputs.sums = (float *)(at += rounded(sizes[1]));
    product.inputs.totals = (int32_t *)(at += rounded(sizes[2]));
    product.codes = at + rounded(sizes[3]);
    OrtStatus *status = share(api, context, quantise_shard, product.quantise_shards, &product);
    if (status == NULL) status = share(api, context, multiply_shard, product.shards, &product);
    kernel->allocator->Free(kernel->allocator, memory);
    return status;
}

static float weight(const Matrix *matrix, int64_t feature, int64_t column) {
    const int64_t row = feature % GROUP, k = column % matrix->block, j = k / 8;
    const uint8_t *block =
        matrix->groups + (feature / GROUP * matrix->blocks + column / matrix->block) * (int64_t)block_bytes(matrix);
    const float *scales = (const float *)block;
    const uint8_t *plane = block + planes_at(matrix);
    int code = 0;
    for (int i = 0; i < matrix->planes; i++, plane += plane_bytes(matrix)) {
        const uint8_t pair = plane[(j * GROUP + row) * 4 + k % 4];
        code = 16 * code + (k % 8 < 4 ? pair & 15 : pair >> 4);
    }
    if (matrix->offsets) return scales[row] * (float)code + scales[GROUP + row];
    return scales[row] * (float)(code - (matrix->planes == 1 ? 8 : 128));
}

static OrtStatus *gather(void *kept, OrtKernelContext *context) {
    const Kernel *kernel = kept;
    const OrtApi *api = kernel->api;
    Input ids;
    Matrix matrix;
    TRY(read_input(api, context, 0, &ids));
    TRY(read_matrix(kernel, context, 1, &matrix));
    if (ids.rank > 7) return api->CreateStatus(ORT_INVALID_ARGUMENT, "more than 7 dimensions");
    const int64_t *rows = ids.data;
    for (int64_t i = 0; i < ids.elements; i++)
        if (rows[i] < 0 || rows[i] >= kernel->features)
            return api->CreateStatus(ORT_INVALID_ARGUMENT, "an id is outside of the table");
    ids.dimensions[ids.rank] = kernel->columns;
    OrtValue *output = NULL;
    void *data = NULL;
    TRY(api->KernelContext_GetOutput(context, 0, ids.dimensions, ids.rank + 1, &output));
    TRY(api->GetTensorMutableData(output, &data));
    float *out = data;
    for (int64_t i = 0; i < ids.elements; i++)
        for (int64_t k = 0; k < kernel->columns; k++) *out++ = weight(&matrix, rows[i], k);
    return NULL;
}

static const char *multiply_name(const OrtCustomOp *op) { (void)op; return "MatMulBlocks"; }
static const char *gather_name(const OrtCustomOp *op) { (void)op; return "GatherBlocks"; }
static const char *on_cpu(const OrtCustomOp *op) { (void)op; return "CPUExecutionProvider"; }
static size_t three(const OrtCustomOp *op) { (void)op; return 3; }
static size_t two(const OrtCustomOp *op) { (void)op; return 2; }
static size_t one(const OrtCustomOp *op) { (void)op; return 1; }
static int none(const OrtCustomOp *op) { (void)op; return 0; }
static int memory_type(const OrtCustomOp *op, size_t index) { (void)op; (void)index; return 0; }
static int multiply_input(const OrtCustomOp *op, size_t index) { (void)op; return index == 1 ? ORT_UINT8 : ORT_FLOAT; }
static int gather_input(const OrtCustomOp *op, size_t index) { (void)op; return index == 1 ? ORT_UINT8 : ORT_INT64; }
static int floats(const OrtCustomOp *op, size_t index) { (void)op; (void)index; return ORT_FLOAT; }
static int optional_third(const OrtCustomOp *op, size_t index) {
    (void)op;
    return index == 2 ? ORT_INPUT_OPTIONAL : ORT_INPUT_REQUIRED;
}
static int required(const OrtCustomOp *op, size_t index) { (void)op; (void)index; return ORT_INPUT_REQUIRED; }

#define OPERATOR(name, inputs, input_type, characteristic, compute)                                             \
    {                                                                                                           \
        .version = ORT_CUSTOM_OP_VERSION, .GetName = name, .GetExecutionProviderType = on_cpu,                  \
        .GetInputType = input_type, .GetInputTypeCount = inputs, .GetOutputType = floats,                       \
        .GetOutputTypeCount = one, .KernelDestroy = destroy, .GetInputCharacteristic = characteristic,          \
        .GetOutputCharacteristic = required, .GetInputMemoryType = memory_type,                                 \
        .GetVariadicInputMinArity = none, .GetVariadicInputHomogeneity = none,                                  \
        .GetVariadicOutputMinArity = none, .GetVariadicOutputHomogeneity = none, .CreateKernelV2 = create,      \
        .KernelComputeV2 = compute,                                                                             \
    }
static const OrtCustomOp MULTIPLY = OPERATOR(multiply_name, three, multiply_input, optional_third, multiply);
static const OrtCustomOp GATHER = OPERATOR(gather_name, two, gather_input, required, gather);

// Called by ONNX Runtime for each session's options. The domain lives as long as the process, as sessions may.
__attribute__((visibility("default"))) OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
    static OrtCustomOpDomain *domain = NULL;
    const OrtApi *api = base->GetApi(ORT_API_VERSION_USED);
    if (domain == NULL) {
        TRY(api->CreateCustomOpDomain("llmos", &domain));
        TRY(api->CustomOpDomain_Add(domain, &MULTIPLY));
        TRY(api->CustomOpDomain_Add(domain, &GATHER));
    }
    return api->AddCustomOpDomain(options, domain);
}
