/* Our kernels inside TensorFlow Lite: an external delegate that runs the custom operator
 * `edgesvit.program`, a whole spike program in its options.
 *
 * One image uint8 (H, W, C) in, class scores int32 out: one boundary, and the arena is our own. At
 * load, types and sizes of both tensors are compared with the program's and the program's self-check
 * vector is run: with another layout of the interface, or wrong kernels, the model is refused.
 */
#include <stdlib.h>
#include <string.h>

#include "crew.h"
#include "tflite_abi.h"

#define NAME "edgesvit.program"

typedef struct {
    uint8_t *file, *arena; /* 16-byte aligned, ours */
    esv_program program;
    const esv_crew *crew;
    int input, output; /* tensors */
} kernel;

static uint8_t *aligned(size_t bytes)
{
    return aligned_alloc(16, (bytes + 15) / 16 * 16);
}

static void destroy(tfl_context *context, void *data)
{
    kernel *k = data;
    (void)context;
    if (k) {
        if (k->crew) {
            crew_free(k->crew);
        }
        free(k->file);
        free(k->arena);
        free(k);
    }
}

/* Opens the program of a node; what is wrong with it, NULL when nothing is. */
static const char *open_program(kernel *k, const tfl_node *node, uint32_t threads)
{
    if (node->inputs->size != 1 || node->outputs->size != 1 || node->custom_bytes <= 0) {
        return "the operator does not take one image and give the scores of classes";
    }
    k->input = node->inputs->data[0];
    k->output = node->outputs->data[0];
    k->file = aligned((size_t)node->custom_bytes);
    if (!k->file) {
        return "no memory";
    }
    memcpy(k->file, node->custom_data, (size_t)node->custom_bytes);
    esv_status status = esv_open(&k->program, k->file, (uint32_t)node->custom_bytes);
    if (status != ESV_OK) {
        return esv_status_text(status);
    }
    k->arena = aligned(k->program.arena_bytes);
    k->crew = crew_new(&k->program, NULL, threads);
    if (!k->arena || !k->crew) {
        return "no memory";
    }
    return esv_check(&k->program, k->arena) == ESV_OK ? NULL : esv_status_text(ESV_CHECK_FAILED);
}

static void *init(tfl_context *context, const char *buffer, size_t bytes)
{
    const tfl_delegate_parameters *given = (const void *)buffer;
    tfl_node *node;
    tfl_registration *registration;
    kernel *k = calloc(1, sizeof *k);
    (void)bytes;
    if (!k || context->node_and_registration(context, given->nodes->data[0], &node,
                                             &registration) != TFL_OK) {
        return k;
    }
    const char *wrong = open_program(k, node, *(const uint32_t *)given->delegate->data);
    if (wrong) {
        context->report_error(context, NAME ": %s", wrong);
        k->output = -1;
    }
    return k;
}

static bool is(const tfl_context *context, int index, int type, size_t bytes)
{
    const tfl_tensor *tensor = &context->tensors[index];
    return (size_t)index < context->tensors_size && tensor->type == type && tensor->bytes == bytes;
}

static int prepare(tfl_context *context, tfl_node *node)
{
    const kernel *k = node->user_data;
    if (!k || !k->crew || k->output < 0) {
        return TFL_ERROR; /* said why */
    }
    if (!is(context, k->input, TFL_UINT8, k->program.input_bytes) ||
        !is(context, k->output, TFL_INT32, 4u * k->program.classes)) {
        context->report_error(context, NAME ": tensors do not fit the program, or this runtime has "
                                       "another layout");
        return TFL_ERROR;
    }
    return TFL_OK;
}

static int invoke(tfl_context *context, tfl_node *node)
{
    kernel *k = node->user_data;
    memcpy(esv_input(&k->program, k->arena), context->tensors[k->input].data,
           k->program.input_bytes);
    esv_run(&k->program, k->arena);
    memcpy(context->tensors[k->output].data, esv_logits(&k->program, k->arena),
           4u * k->program.classes);
    return TFL_OK;
}

/* Take each node that is ours, one by one. */
static int take_nodes(tfl_context *context, tfl_delegate *delegate)
{
    const tfl_registration ours = {.init = init, .free = destroy, .prepare = prepare,
                                   .invoke = invoke, .builtin_code = TFL_DELEGATE_NODE,
                                   .custom_name = "EdgesvitDelegate", .version = 1};
    tfl_ints *plan, *one = malloc(sizeof *one + sizeof(int));
    int status = one ? context->execution_plan(context, &plan) : TFL_ERROR;
    for (int i = 0; status == TFL_OK && i < plan->size; i++) {
        tfl_node *node;
        tfl_registration *registration;
        status = context->node_and_registration(context, plan->data[i], &node, &registration);
        if (status == TFL_OK && registration->custom_name &&
            strcmp(registration->custom_name, NAME) == 0) {
            one->size = 1;
            one->data[0] = plan->data[i];
            status = context->replace_nodes(context, ours, one, delegate);
            break; /* the plan is another one now; a model holds one program */
        }
    }
    free(one);
    return status;
}

tfl_delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values,
                                            size_t count, void (*report)(const char *));
void tflite_plugin_destroy_delegate(tfl_delegate *delegate);

__attribute__((visibility("default"))) tfl_delegate *
tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t count,
                              void (*report)(const char *))
{
    tfl_delegate *delegate = calloc(1, sizeof *delegate);
    uint32_t *threads = malloc(sizeof *threads);
    if (!delegate || !threads) {
        report(NAME ": no memory");
        free(delegate);
        free(threads);
        return NULL;
    }
    *threads = 1;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(keys[i], "threads") == 0) {
            *threads = (uint32_t)strtoul(values[i], NULL, 10);
        }
    }
    *delegate = (tfl_delegate){.data = threads, .prepare = take_nodes,
                               .flags = TFL_ALLOW_DYNAMIC_TENSORS};
    return delegate;
}

__attribute__((visibility("default"))) void tflite_plugin_destroy_delegate(tfl_delegate *delegate)
{
    free(delegate->data);
    free(delegate);
}
