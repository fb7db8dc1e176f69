// `GatherBlocks`: rows of a matrix as floats.
#include "blocks_kernel.h"
#include "forms.h"

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

void gather_row(const Matrix *matrix, const uint8_t *group, int row, float *out) {
    GATHER_OF[index_of(matrix->form)](group, matrix->blocks, row, out);
}

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
        gather_row(
            matrix, matrix->groups + (size_t)(all->ids[i] / GROUP) * group_bytes(matrix), (int)(all->ids[i] % GROUP),
            all->out + i * columns);
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
