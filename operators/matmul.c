// `MatMulBlocks` and `GatherBlocks`.
#include "forms.h"
#include "operators.h"
#include "runtime.h"

enum { ROWS_AT_ONCE = 128 };  // inputs that a group's codes meet while both lie in a processor's own cache

typedef struct {
    const OrtApi *api;
    OrtAllocator *allocator;
    Kernels kernels;
    int64_t features, columns, gate;
    Form form;
} BlocksKernel;

// The form that a node's attributes name.
static OrtStatus *read_form(const OrtApi *api, const OrtKernelInfo *info, Form *out) {
    int64_t type = OWN, bits, block, offsets;
    OrtStatus *absent = api->KernelInfoGetAttribute_int64(info, "ggml_type", &type);
    if (absent == NULL) {
        *out = form_of((Type)type);
        if (out->block == 0)
            return api->CreateStatus(ORT_INVALID_ARGUMENT, "ggml_type must be 2, 3, 6, 7, 8, 12, 13, 14, 20 or 23");
        return NULL;
    }
    api->ReleaseStatus(absent);
    TRY(api->KernelInfoGetAttribute_int64(info, "bits", &bits));
    TRY(api->KernelInfoGetAttribute_int64(info, "block", &block));
    TRY(api->KernelInfoGetAttribute_int64(info, "offsets", &offsets));
    if (block != 16 && block != 32) return api->CreateStatus(ORT_INVALID_ARGUMENT, "block must be 16 or 32");
    if (bits != 4 && bits != 8) return api->CreateStatus(ORT_INVALID_ARGUMENT, "bits must be 4 or 8");
    *out = own_form((int)bits, (int)block, offsets != 0);
    return NULL;
}

OrtStatus *create_blocks(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    (void)op;
    BlocksKernel kernel = {.api = api};
    TRY(choose_kernels(api, &kernel.kernels));
    TRY(api->KernelInfoGetAttribute_int64(info, "N", &kernel.features));
    TRY(api->KernelInfoGetAttribute_int64(info, "K", &kernel.columns));
    TRY(api->KernelInfoGetAttribute_int64(info, "gate", &kernel.gate));
    TRY(read_form(api, info, &kernel.form));
    if (kernel.features < 1 || kernel.columns < 1 || kernel.columns % (kernel.form.block * kernel.form.count) != 0)
        return api->CreateStatus(
            ORT_INVALID_ARGUMENT, "N must be positive and K a multiple of block, of 256 with super-blocks");
    if (kernel.gate < GATE_NONE || kernel.gate > GATE_GELU)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "gate must be 0 (none), 1 (SiLU) or 2 (GELU)");
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

static size_t group_bytes(const Matrix *matrix) {
    return (size_t)matrix->blocks / matrix->form.count * piece_bytes(matrix->form);
}

static OrtStatus *read_matrix(const BlocksKernel *kernel, const OrtKernelContext *context, size_t index, Matrix *out) {
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

    const int64_t blocks = product.matrix.blocks, all = product.rows * blocks;
    product.shards = shards_for(product.rows * kernel->features * kernel->columns, product.groups);
    product.quantise_shards = shards_for(product.rows * kernel->columns * 8, product.rows);
    const size_t sizes[] = {all * kernel->form.block, all * sizeof(float), all * sizeof(float), all * sizeof(int32_t)};
    size_t bytes = 0;
    for (int i = 0; i < 4; i++) bytes += rounded(sizes[i]);
    uint8_t *memory = kernel->allocator->Alloc(kernel->allocator, bytes);
    if (memory == NULL) return api->CreateStatus(ORT_FAIL, "no memory for a multiplication's inputs");
    uint8_t *at = memory;
    product.inputs.codes = (int8_t *)at;
    product.inputs.steps = (float *)(at += rounded(sizes[0]));
    product.inputs.sums = (float *)(at += rounded(sizes[1]));
    product.inputs.starts = (int32_t *)(at + rounded(sizes[2]));
    product.inputs.zero = zero_of(kernel->form);
    OrtStatus *status = share(api, context, quantise_shard, product.quantise_shards, &product);
    if (status == NULL) status = share(api, context, multiply_shard, product.shards, &product);
    kernel->allocator->Free(kernel->allocator, memory);
    return status;
}

// One row of a group of the matrix as floats, K of them.
ALWAYS_INLINE void gather(Form form, const uint8_t *piece, int64_t blocks, int row, float *out) {
    for (int64_t b = 0; b < blocks; piece += piece_bytes(form))
        for (unsigned outer = 0; outer < (unsigned)form.count; outer += blocks_alike(form))
            _Pragma("clang loop unroll(full)") for (int inner = 0; inner < blocks_alike(form); inner++, b++) {
                const unsigned block = outer + inner;
                const float scale = scale_at(form, piece, row, block);
                const float offset = form.offsets ? offset_at(form, piece, row, block) : 0.0f;
                _Pragma("clang loop unroll(full)") for (int k = 0; k < form.block; k++, out++) {
                    const int code = code_at(form, piece, row, block, k / 4, k % 4);
                    *out = form.offsets ? scale * (float)code + offset : scale * (float)(code - zero_of(form));
                }
            }
}

typedef void GatherRow(const uint8_t *group, int64_t blocks, int row, float *out);
#define GATHER(name, form)                                                                                             \
    static void name(const uint8_t *group, int64_t blocks, int row, float *out) {                                      \
        gather(form, group, blocks, row, out);                                                                         \
    }
FORMS(GATHER)

#define NAMED(name, form) [FORM_##name] = name,
static GatherRow *const GATHER_OF[] = {FORMS(NAMED)};

typedef struct {
    const Matrix *matrix;
    const int64_t *ids;
    int64_t count, shards;
    float *out;
} Gathering;

static void gather_shard(void *argument, size_t shard) {
    const Gathering *all = argument;
    const Matrix *matrix = all->matrix;
    const int64_t columns = matrix->blocks * matrix->form.block;
    const int64_t end = all->count * ((int64_t)shard + 1) / all->shards;
    for (int64_t i = all->count * (int64_t)shard / all->shards; i < end; i++)
        GATHER_OF[index_of(matrix->form)](
            matrix->groups + (size_t)(all->ids[i] / GROUP) * group_bytes(matrix), matrix->blocks,
            (int)(all->ids[i] % GROUP), all->out + i * columns);
}

OrtStatus *gather_blocks(void *state, OrtKernelContext *context) {
    const BlocksKernel *kernel = state;
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
    Gathering all = {&matrix, rows, ids.elements, shards_for(ids.elements * kernel->columns, ids.elements), data};
    return share(api, context, gather_shard, all.shards, &all);
}
