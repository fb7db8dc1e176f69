// `RouteExperts`: the experts of each token, and how much each of them counts.
//
//     x          float [..., K]
//     router     float [experts, K]
//  -> experts    int64 [..., used], best first
//     weights    float [..., used]
//
// Attributes: K, a multiple of 8; `experts`; `used`, of them; `scoring`: 0 softmax over all experts, 1 the sigmoid of
// each; `normalise`: whether the weights of a token's experts are divided by their sum. All is float32, in one order: a
// token has the same experts in any batch.
#include "operators.h"
#include "runtime.h"

typedef struct {
    const OrtApi *api;
    OrtAllocator *allocator;
    Kernels kernels;
    int64_t columns;
    Routing routing;
} RouterKernel;

OrtStatus *create_router(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out) {
    (void)op;
    RouterKernel kernel = {.api = api};
    int64_t scoring, normalise;
    TRY(choose_kernels(api, &kernel.kernels));
    TRY(api->KernelInfoGetAttribute_int64(info, "K", &kernel.columns));
    TRY(api->KernelInfoGetAttribute_int64(info, "experts", &kernel.routing.experts));
    TRY(api->KernelInfoGetAttribute_int64(info, "used", &kernel.routing.used));
    TRY(api->KernelInfoGetAttribute_int64(info, "scoring", &scoring));
    TRY(api->KernelInfoGetAttribute_int64(info, "normalise", &normalise));
    if (kernel.columns < 8 || kernel.columns % 8 != 0)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "K must be a multiple of 8");
    if (kernel.routing.used < 1 || kernel.routing.used > kernel.routing.experts)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "used must be from 1 to experts");
    if (scoring != 0 && scoring != 1)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "scoring must be 0 (softmax) or 1 (sigmoid)");
    kernel.routing.sigmoid = scoring == 1;
    kernel.routing.normalised = normalise != 0;
    TRY(api->KernelInfoGetAllocator(info, 0, &kernel.allocator));
    RouterKernel *state = malloc(sizeof *state);
    if (state == NULL) return api->CreateStatus(ORT_FAIL, "no memory");
    *state = kernel;
    *out = state;
    return NULL;
}

void destroy_router(void *state) {
    RouterKernel *kernel = state;
    kernel->api->ReleaseAllocator(kernel->allocator);
    free(kernel);
}

// One choice, as the threads that share it see it.
typedef struct {
    const RouterKernel *kernel;
    const float *x, *router;
    int64_t rows, shards;
    size_t room;  // bytes of a shard's scores
    uint8_t *scores;
    int64_t *experts;
    float *weights;
} Choice;

static void route_shard(void *argument, size_t shard) {
    const Choice *choice = argument;
    const RouterKernel *kernel = choice->kernel;
    const int64_t used = kernel->routing.used, end = choice->rows * ((int64_t)shard + 1) / choice->shards;
    float *scores = (float *)(choice->scores + shard * choice->room);
    for (int64_t row = choice->rows * (int64_t)shard / choice->shards; row < end; row++) {
        kernel->kernels.dot_rows(
            choice->x + row * kernel->columns, choice->router, kernel->routing.experts, kernel->columns, scores);
        kernel->kernels.choose(kernel->routing, scores, choice->experts + row * used, choice->weights + row * used);
    }
}

OrtStatus *route_experts(void *state, OrtKernelContext *context) {
    const RouterKernel *kernel = state;
    const OrtApi *api = kernel->api;
    const Routing routing = kernel->routing;
    Input x, router;
    TRY(read_input(api, context, 0, &x));
    TRY(read_input(api, context, 1, &router));
    if (x.rank < 1 || x.dimensions[x.rank - 1] != kernel->columns)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "the input's last dimension is not K");
    if (router.elements != routing.experts * kernel->columns)
        return api->CreateStatus(ORT_INVALID_ARGUMENT, "the router has not a row of K floats for each expert");
    x.dimensions[x.rank - 1] = routing.used;
    OrtValue *outputs[2];
    void *data[2];
    for (size_t i = 0; i < 2; i++) {
        TRY(api->KernelContext_GetOutput(context, i, x.dimensions, x.rank, &outputs[i]));
        TRY(api->GetTensorMutableData(outputs[i], &data[i]));
    }
    const int64_t rows = x.elements / kernel->columns;
    if (rows == 0) return NULL;
    Choice choice = {
        .kernel = kernel,
        .x = x.data,
        .router = router.data,
        .rows = rows,
        .shards = shards_for(rows * routing.experts * kernel->columns, rows),
        .room = rounded((size_t)(routing.experts + 8) * sizeof(float)),
        .experts = data[0],
        .weights = data[1],
    };
    choice.scores = kernel->allocator->Alloc(kernel->allocator, (size_t)choice.shards * choice.room);
    if (choice.scores == NULL) return api->CreateStatus(ORT_FAIL, "no memory for a router's scores");
    OrtStatus *status = share(api, context, route_shard, choice.shards, &choice);
    kernel->allocator->Free(kernel->allocator, choice.scores);
    return status;
}
