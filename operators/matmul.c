// `MatMulBlocks`.
#include "blocks_kernel.h"

// The form that a node's attributes name.
static OrtStatus *read_form(const OrtApi *api, const OrtKernelInfo *info, Form *out) {
    int64_t type = OWN, bits, block, offsets;
    if (has_attribute(api, info, "ggml_type", &type)) {
        *out = form_of((Type)type);
        if (out->block == 0)
            return api->CreateStatus(ORT_INVALID_ARGUMENT, "ggml_type must be 2, 3, 6, 7, 8, 12, 13, 14, 20 or 23");
        return NULL;
    }
    TRY(api->KernelInfoGetAttribute_int64(info, "bits", &bits));
    TRY(api->KernelInfoGetAttribute_int64(info, "block", &block));
    TRY(api->KernelInfoGetAttribute_int64(info, "offsets", &offsets));
    if (block != 16 && block != 32) return api->CreateStatus(ORT_INVALID_ARGUMENT, "block must be 16 or 32");
    if (bits != 4 && bits != 8) return api->CreateStatus(ORT_INVALID_ARGUMENT, "bits must be 4 or 8");
    *out = own_form((int)bits, (int)block, offsets != 0);
    return NULL;
}

OrtStatus *read_sizes(const OrtApi *api, const OrtKernelInfo *info, BlocksKernel *out) {
    *out = (BlocksKernel){.api = api};
    TRY(choose_kernels(api, &out->kernels));
    TRY(api->KernelInfoGetAttribute_int64(info, "N", &out->features));
    TRY(api->KernelInfoGetAttribute_int64(info, "K", &out->columns));
    TRY(api->KernelInfoGetAttribute_int64(info, "gate", &out->gate));
    if (out->gate < GATE_NONE || out->gate > GATE_GELU)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "gate must be 0 (none), 1 (SiLU) or 2 (GELU)");
    return NULL;
}

OrtStatus *read_blocks(const OrtApi *api, const OrtKernelInfo *info, BlocksKernel *out) {
    TRY(read_sizes(api, info, out));
    TRY(read_form(api, info, &out->form));
    if (out->features < 1 || out->columns < 1 || out->columns % (out->form.block * out->form.count) != 0)
        return api->CreateStatus(
            ORT_INVALID_ARGUMENT, "N must be positive and K a multiple of block, of 256 with super-blocks");
    return NULL;
}

OrtStatus *create_blocks(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    (void)op;
    BlocksKernel kernel;
    TRY(read_blocks(api, info, &kernel));
    TRY(api->KernelInfoGetAllocator(info, 0, &kernel.allocator));
    BlocksKernel *state = malloc(sizeof *state);
    if (state == NULL) return api->CreateStatus(ORT_FAIL, "no memory");
    *state = kernel;
    *out = state;
    return NULL;
}

void destroy_blocks(void *state) {
    BlocksKernel *kernel = state;
    kernel->api->ReleaseAllocator(kernel->allocator);
    free(kernel);
}

OrtStatus *read_matrix(const BlocksKernel *kernel, const OrtKernelContext *context, size_t index, Matrix *out) {
    Input stored;
    TRY(read_input(kernel->api, context, index, &stored));
    *out = (Matrix){
        .groups = stored.data,
        .features = kernel->features,
        .blocks = kernel->columns / kernel->form.block,
        .form = kernel->form,
    };
    const int64_t groups = (kernel->features + GROUP - 1) / GROUP;
    if (stored.elements != groups * (int64_t)group_bytes(out))
        return kernel->api->CreateStatus(
            ORT_INVALID_ARGUMENT, "the matrix has not the bytes that N, K and its form ask for");
    return NULL;
}

// One multiplication, as the threads that share it see it.
typedef struct {
    const BlocksKernel *kernel;
    Matrix matrix;
    const float *x, *bias;
    float *y;
    int64_t rows, groups, shards, quantise_shards;
    Rows inputs;
} Product;

static void quantise_shard(void *argument, size_t shard) {
    const Product *product = argument;
    const int64_t width = product->kernel->columns * (product->kernel->gate == GATE_NONE ? 1 : 2);
    const int64_t first = product->rows * (int64_t)shard / product->quantise_shards;
    const int64_t end = product->rows * ((int64_t)shard + 1) / product->quantise_shards;
    for (int64_t row = first; row < end; row++)
        product->kernel->kernels.quantise_row(
            product->x + row * width, product->matrix.blocks, product->kernel->form.block, (Gate)product->kernel->gate,
            product->inputs, row);
}

static void add_bias(const Product *product, int64_t feature, int64_t count, float *y, int64_t stride, int64_t rows) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < count; i++) y[r * stride + i] += product->bias[feature + i];
}

static void multiply_rows(const Product *product, int64_t group, int64_t first, int64_t rows) {
    const Matrix *matrix = &product->matrix;
    const uint8_t *stored = matrix->groups + (size_t)group * group_bytes(matrix);
    MultiplyGroup *multiply = product->kernel->kernels.multiply_group;
    const int64_t feature = group * GROUP, stride = matrix->features;
    const int64_t count = stride - feature < GROUP ? stride - feature : GROUP;
    float *y = product->y + first * stride + feature;
    if (count == GROUP) {
        multiply(matrix, stored, product->inputs, first, rows, y, stride);
    } else {  // the last group has fewer features than results
        float results[ROWS_AT_ONCE * GROUP];
        multiply(matrix, stored, product->inputs, first, rows, results, GROUP);
        for (int64_t r = 0; r < rows; r++) memcpy(y + r * stride, results + r * GROUP, count * sizeof(float));
    }
    if (product->bias != NULL) add_bias(product, feature, count, y, stride, rows);
}

static void multiply_shard(void *argument, size_t shard) {
    const Product *product = argument;
    const int64_t from = product->groups * (int64_t)shard / product->shards;
    const int64_t to = product->groups * ((int64_t)shard + 1) / product->shards;
    for (int64_t first = 0; first < product->rows; first += ROWS_AT_ONCE) {
        const int64_t left = product->rows - first, rows = left < ROWS_AT_ONCE ? left : ROWS_AT_ONCE;
        for (int64_t group = from; group < to; group++) multiply_rows(product, group, first, rows);
    }
}

OrtStatus *multiply_blocks(void *state, OrtKernelContext *context) {
    const BlocksKernel *kernel = state;
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

    const int64_t blocks = product.matrix.blocks;
    product.shards = shards_for(product.rows * kernel->features * kernel->columns, product.groups);
    product.quantise_shards = shards_for(product.rows * kernel->columns * 8, product.rows);
    const size_t bytes = rows_bytes(product.rows, blocks, kernel->form);
    uint8_t *memory = kernel->allocator->Alloc(kernel->allocator, bytes);
    if (memory == NULL) return api->CreateStatus(ORT_FAIL, "no memory for a multiplication's inputs");
    product.inputs = rows_in(memory, product.rows, blocks, kernel->form);
    OrtStatus *status = share(api, context, quantise_shard, product.quantise_shards, &product);
    if (status == NULL) status = share(api, context, multiply_shard, product.shards, &product);
    kernel->allocator->Free(kernel->allocator, memory);
    return status;
}
