// `CachedAttention`: rotary grouped-query attention over keys and values that are kept from step to step.
//
//     query          float [batch, new, heads * size], or [batch, new, (heads + 2 * kv_heads) * size] with key and value
//     key, value     float [batch, new, kv_heads * size], or left out
//     past_key, past_value    float or float16 [slots, kv_heads, capacity, size]
//     seqlens_k      int32 [batch]: tokens of each sequence with the new ones, less one
//     cos, sin       float [positions, size / 2], or left out
//     slots          int32 [batch]: where each sequence is kept; left out: sequence i in slot i, and batch slots
//  -> output         float [batch, new, heads * size]
//     present_key, present_value    as past, in the same memory where that is bound to both
//
// It is ONNX Runtime's GroupQueryAttention, but for this: a position's result has the same bits whether its token came
// alone, in a batch, or in a prompt of whatever chunks. And with `slots`, rows of a batch may follow one another in one
// sequence: new keys and values are kept before any are read. So one step can take a token of some sequences and many
// of others.
#include <math.h>

#include "operators.h"
#include "runtime.h"

enum { QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, SEQLENS, COS, SIN, SLOTS, INPUTS };

typedef struct {
    const OrtApi *api;
    OrtAllocator *allocator;
    Kernels kernels;
    int64_t heads, kv_heads, size, interleaved, window;
    float scale;
    bool halves;  // what keys and values are kept in
} AttentionKernel;

OrtStatus *create_attention(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    AttentionKernel kernel = {.api = api, .halves = op->GetInputType(op, PAST_KEY) == ORT_FLOAT16};
    TRY(choose_kernels(api, &kernel.kernels));
    TRY(api->KernelInfoGetAttribute_int64(info, "num_heads", &kernel.heads));
    TRY(api->KernelInfoGetAttribute_int64(info, "kv_num_heads", &kernel.kv_heads));
    TRY(api->KernelInfoGetAttribute_int64(info, "head_size", &kernel.size));
    TRY(api->KernelInfoGetAttribute_int64(info, "rotary_interleaved", &kernel.interleaved));
    TRY(api->KernelInfoGetAttribute_int64(info, "local_window_size", &kernel.window));
    TRY(api->KernelInfoGetAttribute_float(info, "scale", &kernel.scale));
    if (kernel.kv_heads < 1 || kernel.heads < 1 || kernel.heads % kernel.kv_heads != 0)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "num_heads must be a multiple of kv_num_heads");
    if (kernel.size < 8 || kernel.size % 8 != 0)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "head_size must be a multiple of 8");
    TRY(api->KernelInfoGetAllocator(info, 0, &kernel.allocator));
    AttentionKernel *state = malloc(sizeof *state);
    if (state == NULL) return api->CreateStatus(ORT_FAIL, "no memory");
    *state = kernel;
    *out = state;
    return NULL;
}

void destroy_attention(void *state) {
    AttentionKernel *kernel = state;
    kernel->api->ReleaseAllocator(kernel->allocator);
    free(kernel);
}

// One step of attention, as the threads that share it see it.
typedef struct {
    const AttentionKernel *kernel;
    const float *query, *key, *value, *cos, *sin;
    const int32_t *seqlens, *slots;
    void *keys, *values;
    float *rotated, *turned, *scores, *output;
    int64_t batch, fresh, capacity;
    int64_t query_width, key_width;  // floats from one token's query, or key, to the next one's
    int64_t shards, turn_shards, scores_length;
} Attention;

// Turns the pairs of a head by a position's angles: neighbours, or those half a head apart. Scales what comes out.
static void turn(const Attention *step, const float *from, int64_t position, float scale, float *to) {
    const int64_t half = step->kernel->size / 2;
    if (step->cos == NULL) {
        for (int64_t i = 0; i < 2 * half; i++) to[i] = from[i] * scale;
        return;
    }
    const float *cos = step->cos + position * half, *sin = step->sin + position * half;
    const int64_t apart = step->kernel->interleaved ? 1 : half, next = step->kernel->interleaved ? 2 : 1;
    for (int64_t i = 0; i < half; i++) {
        const float x = from[i * next], y = from[i * next + apart];
        to[i * next] = (x * cos[i] - y * sin[i]) * scale;
        to[i * next + apart] = (x * sin[i] + y * cos[i]) * scale;
    }
}

static int64_t slot_of(const Attention *step, int64_t sequence) {
    return step->slots == NULL ? sequence : step->slots[sequence];
}

static int64_t position_of(const Attention *step, int64_t sequence, int64_t fresh) {
    return step->seqlens[sequence] + 1 - step->fresh + fresh;
}

// Writes the new keys and values into the cache, and the rotated queries beside them.
static void turn_shard(void *argument, size_t shard) {
    const Attention *step = argument;
    const AttentionKernel *kernel = step->kernel;
    const int64_t tokens = step->batch * step->fresh, size = kernel->size;
    const int64_t end = tokens * ((int64_t)shard + 1) / step->turn_shards;
    for (int64_t token = tokens * (int64_t)shard / step->turn_shards; token < end; token++) {
        const int64_t sequence = token / step->fresh;
        const int64_t position = position_of(step, sequence, token % step->fresh);
        const int64_t slot = slot_of(step, sequence);
        for (int64_t head = 0; head < kernel->heads; head++)
            turn(
                step, step->query + token * step->query_width + head * size, position, kernel->scale,
                step->rotated + (token * kernel->heads + head) * size);
        for (int64_t head = 0; head < kernel->kv_heads; head++) {
            const int64_t at = ((slot * kernel->kv_heads + head) * step->capacity + position) * size;
            float *turned = step->turned + (int64_t)shard * size;
            turn(step, step->key + token * step->key_width + head * size, position, 1.0f, turned);
            kernel->kernels.keep(kernel->halves, turned, size, step->keys, at);
            kernel->kernels.keep(
                kernel->halves, step->value + token * step->key_width + head * size, size, step->values, at);
        }
    }
}

// The work goes through the tokens once for each head of the cache: the heads that share it read it one after another.
static void attend_shard(void *argument, size_t shard) {
    const Attention *step = argument;
    const AttentionKernel *kernel = step->kernel;
    const int64_t size = kernel->size, shared = kernel->heads / kernel->kv_heads, tokens = step->batch * step->fresh;
    const int64_t all = tokens * kernel->heads;
    const int64_t end = all * ((int64_t)shard + 1) / step->shards;
    for (int64_t i = all * (int64_t)shard / step->shards; i < end; i++) {
        const int64_t kv_head = i / shared / tokens, token = i / shared % tokens;
        const int64_t sequence = token / step->fresh, head = kv_head * shared + i % shared;
        const int64_t seen = position_of(step, sequence, token % step->fresh) + 1;
        const int64_t first = kernel->window > 0 && seen > kernel->window ? seen - kernel->window : 0;
        const int64_t at = ((slot_of(step, sequence) * kernel->kv_heads + kv_head) * step->capacity + first) * size;
        const int64_t row = (token * kernel->heads + head) * size;
        const size_t bytes = (size_t)at * (kernel->halves ? 2 : sizeof(float));
        kernel->kernels.attend(
            kernel->halves, step->rotated + row, (uint8_t *)step->keys + bytes, (uint8_t *)step->values + bytes,
            seen - first, size, step->scores + (int64_t)shard * step->scores_length, step->output + row);
    }
}

static OrtStatus *make_present(
    const AttentionKernel *kernel, OrtKernelContext *context, size_t output, const Input *past, void **out) {
    OrtValue *value = NULL;
    void *data = NULL;
    TRY(kernel->api->KernelContext_GetOutput(context, output, past->dimensions, past->rank, &value));
    TRY(kernel->api->GetTensorMutableData(value, &data));
    if (data != past->data) memcpy(data, past->data, (size_t)past->elements * (kernel->halves ? 2 : sizeof(float)));
    *out = data;
    return NULL;
}

static const char *problem_of(const AttentionKernel *kernel, const Attention *step, const Input inputs[]) {
    const Input *query = &inputs[QUERY], *past = &inputs[PAST_KEY];
    const bool packed = inputs[KEY].data == NULL;
    if (query->rank != 3 || step->query_width != (kernel->heads + (packed ? 2 * kernel->kv_heads : 0)) * kernel->size)
        return "query is not [batch, new, heads * size], with key and value inside where those are left out";
    if (!packed && (inputs[KEY].elements != step->batch * step->fresh * step->key_width ||
                    inputs[VALUE].elements != inputs[KEY].elements))
        return "key or value is not [batch, new, kv_heads * size]";
    if (past->rank != 4 || past->dimensions[1] != kernel->kv_heads || past->dimensions[3] != kernel->size ||
        inputs[PAST_VALUE].elements != past->elements)
        return "past_key or past_value is not [slots, kv_heads, capacity, size]";
    if (step->slots == NULL ? past->dimensions[0] != step->batch : inputs[SLOTS].elements != step->batch)
        return "past_key has not one slot for each sequence, or slots has not one number for each";
    for (int64_t i = 0; step->slots != NULL && i < step->batch; i++)
        if (step->slots[i] < 0 || step->slots[i] >= past->dimensions[0]) return "a slot is outside of past_key";
    if (inputs[SEQLENS].elements != step->batch) return "seqlens_k has not one number for each sequence";
    for (int64_t i = 0; i < step->batch; i++)
        if (step->seqlens[i] + 1 < step->fresh || step->seqlens[i] >= step->capacity)
            return "seqlens_k is below the new tokens, or beyond the cache's capacity";
    if ((inputs[COS].data == NULL) != (inputs[SIN].data == NULL)) return "cos and sin belong together";
    for (int64_t i = 0; step->cos != NULL && i < step->batch; i++)
        if ((step->seqlens[i] + 1) * (kernel->size / 2) > inputs[COS].elements ||
            inputs[COS].elements != inputs[SIN].elements)
            return "cos and sin have no angles for a position";
    return NULL;
}

OrtStatus *attend_cached(void *state, OrtKernelContext *context) {
    const AttentionKernel *kernel = state;
    const OrtApi *api = kernel->api;
    Input inputs[INPUTS];
    for (size_t i = QUERY; i < INPUTS; i++) TRY(read_input(api, context, i, &inputs[i]));
    const int64_t size = kernel->size;
    const Input *query = &inputs[QUERY];
    const bool packed = inputs[KEY].data == NULL;
    Attention step = {
        .kernel = kernel,
        .query = query->data,
        .key = packed ? (const float *)query->data + kernel->heads * size : inputs[KEY].data,
        .value = packed ? (const float *)query->data + (kernel->heads + kernel->kv_heads) * size : inputs[VALUE].data,
        .cos = inputs[COS].data,
        .sin = inputs[SIN].data,
        .seqlens = inputs[SEQLENS].data,
        .slots = inputs[SLOTS].data,
        .batch = query->dimensions[0],
        .fresh = query->dimensions[1],
        .capacity = inputs[PAST_KEY].dimensions[2],
        .query_width = query->dimensions[2],
        .key_width = packed ? query->dimensions[2] : kernel->kv_heads * size,
    };
    const char *problem = problem_of(kernel, &step, inputs);
    if (problem != NULL) return api->CreateStatus(ORT_INVALID_ARGUMENT, problem);
    TRY(make_present(kernel, context, 1, &inputs[PAST_KEY], &step.keys));
    TRY(make_present(kernel, context, 2, &inputs[PAST_VALUE], &step.values));
    const int64_t shape[] = {step.batch, step.fresh, kernel->heads * size};
    OrtValue *output = NULL;
    void *data = NULL;
    TRY(api->KernelContext_GetOutput(context, 0, shape, 3, &output));
    TRY(api->GetTensorMutableData(output, &data));
    const int64_t rows = step.batch * step.fresh * kernel->heads;
    if (rows == 0) return NULL;
    step.output = data;

    int64_t longest = 0, seen = 0;
    for (int64_t i = 0; i < step.batch; i++) {
        seen += step.seqlens[i] + 1;
        longest = step.seqlens[i] + 1 > longest ? step.seqlens[i] + 1 : longest;
    }
    step.scores_length = (longest + 7) / 8 * 8;
    step.shards = shards_for(2 * seen * step.fresh * kernel->heads * size, rows);
    step.turn_shards = shards_for(rows * size * 4, step.batch * step.fresh);
    const size_t rotated = rounded((size_t)(rows * size) * sizeof(float));
    const size_t turned = rounded((size_t)(step.turn_shards * size) * sizeof(float));
    const size_t scores = (size_t)(step.shards * step.scores_length) * sizeof(float);
    uint8_t *memory = kernel->allocator->Alloc(kernel->allocator, rotated + turned + scores);
    if (memory == NULL) return api->CreateStatus(ORT_FAIL, "no memory for attention's queries and scores");
    step.rotated = (float *)memory;
    step.turned = (float *)(memory + rotated);
    step.scores = (float *)(memory + rotated + turned);
    OrtStatus *status = share(api, context, turn_shard, step.turn_shards, &step);
    if (status == NULL) status = share(api, context, attend_shard, step.shards, &step);
    kernel->allocator->Free(kernel->allocator, memory);
    return status;
}
