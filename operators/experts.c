// `MatMulExperts`: rows multiplied by the matrices of their experts.
//
//     x          float [..., K], or [..., used, K]: one input for all experts of a token, or one for each; with a gate 2 K
//     experts    int64 [..., used]: which, below `experts`
//     matrix     uint8: the matrices of all experts, one after the other
//     weights    float [..., used], or left out
//  -> y          float [..., used, N]; with weights [..., N], the sum of the experts' results times their weights
//
// Attributes: those of `MatMulBlocks`, with `ggml_type` 0 too: rows of float32, K a multiple of 8; `experts`; and
// `float_inputs`, 1 where inputs are not rounded to int8.
//
// A token with one of its experts is a pair. Pairs are sorted by expert, so that each matrix in use is read once and no
// other is; a pair's result does not depend on its place, and weights are added in the order in which they are given.
#include "blocks_kernel.h"

enum { F32 = 0 };  // of ggml_type

typedef struct {
    BlocksKernel blocks;
    int64_t experts;
    bool floats;        // what is stored
    bool float_inputs;  // what it is multiplied by
} ExpertsKernel;

OrtStatus *create_experts(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    (void)op;
    ExpertsKernel kernel;
    int64_t type, float_inputs = 0;
    kernel.floats = has_attribute(api, info, "ggml_type", &type) && type == F32;
    if (kernel.floats) {
        TRY(read_sizes(api, info, &kernel.blocks));
        if (kernel.blocks.features < 1 || kernel.blocks.columns < 8 || kernel.blocks.columns % 8 != 0)
            return api->CreateStatus(ORT_INVALID_ARGUMENT, "N must be positive and K a multiple of 8");
    } else {
        TRY(read_blocks(api, info, &kernel.blocks));
    }
    TRY(api->KernelInfoGetAttribute_int64(info, "experts", &kernel.experts));
    if (kernel.experts < 1) return api->CreateStatus(ORT_INVALID_ARGUMENT, "experts must be positive");
    kernel.float_inputs = kernel.floats || (has_attribute(api, info, "float_inputs", &float_inputs) && float_inputs);
    TRY(api->KernelInfoGetAllocator(info, 0, &kernel.blocks.allocator));
    ExpertsKernel *state = malloc(sizeof *state);
    if (state == NULL) return api->CreateStatus(ORT_FAIL, "no memory");
    *state = kernel;
    *out = state;
    return NULL;
}

void destroy_experts(void *state) {
    ExpertsKernel *kernel = state;
    kernel->blocks.api->ReleaseAllocator(kernel->blocks.allocator);
    free(kernel);
}

// One multiplication, as the threads that share it see it.
typedef struct {
    const ExpertsKernel *kernel;
    Matrix matrix;  // of the first expert
    size_t expert_bytes;
    const float *x, *weights;
    const int64_t *experts;
    int64_t rows, pairs, used, groups;
    bool own_inputs;  // an input for each pair
    int64_t *order;   // pairs, by their expert
    int64_t *starts;  // of each expert's in that order, and their end
    int64_t *active;  // experts that have any
    int64_t active_count;
    Rows inputs;      // in that order; or as floats:
    float *gated;     // what a gate makes of them, in that order
    float *features;  // a group's rows for each shard
    float *results;   // of pairs, where weights add them up
    float *y;
    int64_t input_shards, shards, sum_shards;
} Mixture;

static const float *input_of(const Mixture *all, int64_t pair) {
    const BlocksKernel *blocks = &all->kernel->blocks;
    const int64_t width = blocks->columns * (blocks->gate == GATE_NONE ? 1 : 2);
    return all->x + (all->own_inputs ? pair : pair / all->used) * width;
}

static void input_shard(void *argument, size_t shard) {
    const Mixture *all = argument;
    const BlocksKernel *blocks = &all->kernel->blocks;
    const int64_t end = all->pairs * ((int64_t)shard + 1) / all->input_shards;
    for (int64_t at = all->pairs * (int64_t)shard / all->input_shards; at < end; at++) {
        const float *x = input_of(all, all->order[at]);
        if (all->kernel->float_inputs)
            blocks->kernels.activate_row(x, blocks->columns, (Gate)blocks->gate, all->gated + at * blocks->columns);
        else
            blocks->kernels.quantise_row(
                x, all->matrix.blocks, blocks->form.block, (Gate)blocks->gate, all->inputs, at);
    }
}

// The rows of a group as floats, which lie in the matrix or are made of it.
static const float *float_rows(const Mixture *all, const uint8_t *matrix, int64_t group, int64_t count, size_t shard) {
    const int64_t columns = all->kernel->blocks.columns;
    if (all->kernel->floats) return (const float *)matrix + group * GROUP * columns;
    float *rows = all->features + (int64_t)shard * GROUP * columns;
    const uint8_t *stored = matrix + (size_t)group * group_bytes(&all->matrix);
    for (int row = 0; row < count; row++) gather_row(&all->matrix, stored, row, rows + row * columns);
    return rows;
}

// The results of an expert's pairs for a group of features.
static void multiply_pairs(const Mixture *all, int64_t expert, int64_t group, size_t shard) {
    const BlocksKernel *blocks = &all->kernel->blocks;
    const uint8_t *matrix = all->matrix.groups + (size_t)expert * all->expert_bytes;
    const int64_t feature = group * GROUP, left = blocks->features - feature, count = left < GROUP ? left : GROUP;
    const bool floats = all->kernel->float_inputs;
    const float *rows = floats ? float_rows(all, matrix, group, count, shard) : NULL;
    float *y = all->weights == NULL ? all->y : all->results;
    for (int64_t first = all->starts[expert]; first < all->starts[expert + 1]; first += ROWS_AT_ONCE) {
        const int64_t more = all->starts[expert + 1] - first, here = more < ROWS_AT_ONCE ? more : ROWS_AT_ONCE;
        float results[ROWS_AT_ONCE * GROUP];
        if (!floats)
            blocks->kernels.multiply_group(
                &all->matrix, matrix + (size_t)group * group_bytes(&all->matrix), all->inputs, first, here, results,
                GROUP);
        for (int64_t r = 0; r < here; r++) {
            const int64_t pair = all->order[first + r];
            if (floats)
                blocks->kernels.dot_rows(
                    blocks->gate == GATE_NONE ? input_of(all, pair) : all->gated + (first + r) * blocks->columns, rows,
                    count, blocks->columns, results + r * GROUP);
            memcpy(y + pair * blocks->features + feature, results + r * GROUP, (size_t)count * sizeof(float));
        }
    }
}

static void multiply_shard(void *argument, size_t shard) {
    const Mixture *all = argument;
    const int64_t items = all->active_count * all->groups, end = items * ((int64_t)shard + 1) / all->shards;
    for (int64_t item = items * (int64_t)shard / all->shards; item < end; item++)
        multiply_pairs(all, all->active[item / all->groups], item % all->groups, shard);
}

static void sum_shard(void *argument, size_t shard) {
    const Mixture *all = argument;
    const int64_t features = all->kernel->blocks.features, end = all->rows * ((int64_t)shard + 1) / all->sum_shards;
    for (int64_t row = all->rows * (int64_t)shard / all->sum_shards; row < end; row++) {
        float *y = all->y + row * features;
        memset(y, 0, (size_t)features * sizeof(float));
        for (int64_t pair = row * all->used; pair < (row + 1) * all->used; pair++) {
            const float weight = all->weights[pair], *result = all->results + pair * features;
            for (int64_t n = 0; n < features; n++) y[n] += weight * result[n];
        }
    }
}

// Sorts the pairs by expert, a token's before the next one's.
static void sort_pairs(Mixture *all) {
    const int64_t experts = all->kernel->experts;
    memset(all->starts, 0, (size_t)(experts + 1) * sizeof(int64_t));
    for (int64_t pair = 0; pair < all->pairs; pair++) all->starts[all->experts[pair] + 1]++;
    all->active_count = 0;
    for (int64_t expert = 0; expert < experts; expert++) {
        if (all->starts[expert + 1] > 0) all->active[all->active_count++] = expert;
        all->starts[expert + 1] += all->starts[expert];
    }
    for (int64_t pair = 0; pair < all->pairs; pair++) all->order[all->starts[all->experts[pair]]++] = pair;
    for (int64_t expert = experts; expert > 0; expert--) all->starts[expert] = all->starts[expert - 1];
    all->starts[0] = 0;
}

// Checks what is multiplied, and makes the output.
static OrtStatus *read_mixture(const ExpertsKernel *kernel, OrtKernelContext *context, Mixture *out) {
    const BlocksKernel *blocks = &kernel->blocks;
    const OrtApi *api = blocks->api;
    Input x, experts, matrix, weights = {0};
    size_t inputs = 0;
    TRY(read_input(api, context, 0, &x));
    TRY(read_input(api, context, 1, &experts));
    TRY(read_input(api, context, 2, &matrix));
    TRY(api->KernelContext_GetInputCount(context, &inputs));
    if (inputs > 3) TRY(read_input(api, context, 3, &weights));
    const int64_t width = blocks->columns * (blocks->gate == GATE_NONE ? 1 : 2);
    if (x.rank < 1 || x.dimensions[x.rank - 1] != width)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "the input's last dimension is not K (2 K with a gate)");
    if (experts.rank < 1 || (x.rank != experts.rank && x.rank != experts.rank + 1))
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "the input has not the dimensions of the experts' numbers");
    const size_t shared = x.rank == experts.rank ? x.rank - 1 : experts.rank;
    for (size_t i = 0; i < shared; i++)
        if (x.dimensions[i] != experts.dimensions[i])
            return api->CreateStatus(ORT_INVALID_ARGUMENT, "the input has not the dimensions of the experts' numbers");
    if (weights.data != NULL && weights.elements != experts.elements)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "the weights have not the dimensions of the experts' numbers");
    *out = (Mixture){
        .kernel = kernel,
        .matrix = {.groups = matrix.data, .features = blocks->features, .form = blocks->form},
        .x = x.data,
        .weights = weights.data,
        .experts = experts.data,
        .pairs = experts.elements,
        .used = experts.dimensions[experts.rank - 1],
        .groups = (blocks->features + GROUP - 1) / GROUP,
        .own_inputs = x.rank != experts.rank,
    };
    if (!kernel->floats) out->matrix.blocks = blocks->columns / blocks->form.block;
    out->expert_bytes = kernel->floats ? (size_t)(blocks->features * blocks->columns) * sizeof(float)
                                       : (size_t)out->groups * group_bytes(&out->matrix);
    if ((size_t)matrix.elements != (size_t)kernel->experts * out->expert_bytes)
        return api->CreateStatus(
            ORT_INVALID_ARGUMENT, "the matrices have not the bytes that experts, N, K and their form ask for");
    for (int64_t pair = 0; pair < out->pairs; pair++)
        if (out->experts[pair] < 0 || out->experts[pair] >= kernel->experts)
            return api->CreateStatus(ORT_INVALID_ARGUMENT, "the number of an expert is not below `experts`");
    size_t rank = experts.rank;
    if (out->weights != NULL)
        experts.dimensions[rank - 1] = blocks->features;
    else if (rank > 7)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "more than 7 dimensions");
    else
        experts.dimensions[rank++] = blocks->features;
    OrtValue *output = NULL;
    void *y = NULL;
    TRY(api->KernelContext_GetOutput(context, 0, experts.dimensions, rank, &output));
    TRY(api->GetTensorMutableData(output, &y));
    out->y = y;
    out->rows = out->pairs == 0 ? 0 : out->pairs / out->used;
    return NULL;
}

OrtStatus *multiply_experts(void *state, OrtKernelContext *context) {
    const ExpertsKernel *kernel = state;
    const BlocksKernel *blocks = &kernel->blocks;
    const OrtApi *api = blocks->api;
    Mixture all;
    TRY(read_mixture(kernel, context, &all));
    if (all.pairs == 0) return NULL;
    const int64_t work = all.pairs * blocks->features * blocks->columns;
    const int64_t most_active = all.pairs < kernel->experts ? all.pairs : kernel->experts;
    const bool gated = kernel->float_inputs && blocks->gate != GATE_NONE;
    const int64_t most_shards = shards_for(work, most_active * all.groups);
    const size_t sizes[] = {
        (size_t)all.pairs * sizeof(int64_t),
        (size_t)(kernel->experts + 1) * sizeof(int64_t),
        (size_t)kernel->experts * sizeof(int64_t),
        kernel->float_inputs ? 0 : rows_bytes(all.pairs, all.matrix.blocks, blocks->form),
        gated ? (size_t)(all.pairs * blocks->columns) * sizeof(float) : 0,
        kernel->float_inputs && !kernel->floats ? (size_t)(most_shards * GROUP * blocks->columns) * sizeof(float) : 0,
        all.weights != NULL ? (size_t)(all.pairs * blocks->features) * sizeof(float) : 0,
    };
    enum { PARTS = sizeof sizes / sizeof sizes[0] };
    size_t bytes = 0;
    for (int i = 0; i < PARTS; i++) bytes += rounded(sizes[i]);
    uint8_t *memory = blocks->allocator->Alloc(blocks->allocator, bytes), *parts[PARTS];
    if (memory == NULL) return api->CreateStatus(ORT_FAIL, "no memory for a multiplication's inputs");
    parts[0] = memory;
    for (int i = 1; i < PARTS; i++) parts[i] = parts[i - 1] + rounded(sizes[i - 1]);
    all.order = (int64_t *)parts[0];
    all.starts = (int64_t *)parts[1];
    all.active = (int64_t *)parts[2];
    if (!kernel->float_inputs) all.inputs = rows_in(parts[3], all.pairs, all.matrix.blocks, blocks->form);
    all.gated = (float *)parts[4];
    all.features = (float *)parts[5];
    all.results = (float *)parts[6];
    sort_pairs(&all);
    all.shards = shards_for(work, all.active_count * all.groups);
    all.input_shards = shards_for(all.pairs * blocks->columns * 8, all.pairs);
    all.sum_shards = shards_for(all.pairs * blocks->features, all.rows);
    OrtStatus *status = NULL;
    if (gated || !kernel->float_inputs) status = share(api, context, input_shard, all.input_shards, &all);
    if (status == NULL) status = share(api, context, multiply_shard, all.shards, &all);
    if (status == NULL && all.weights != NULL) status = share(api, context, sum_shard, all.sum_shards, &all);
    blocks->allocator->Free(blocks->allocator, memory);
    return status;
}
