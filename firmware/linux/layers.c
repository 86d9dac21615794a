#include "layers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe.h"

typedef struct {
    int64_t first, ns, instructions;
} step;

/* Clock and counter as around a whole image: runner.c says why in this order. */
static uint32_t timed_step(const esv_program *program, uint8_t *arena, uint32_t index, int counter,
                           step *s)
{
    int64_t start = probe_ns();
    int64_t count = probe_count(counter);
    edgesvit_roi_begin();
    uint32_t next = esv_run_step(program, arena, index);
    edgesvit_roi_end();
    s->first = index;
    s->instructions = counter < 0 ? -1 : probe_count(counter) - count;
    s->ns = probe_ns() - start;
    return next;
}

static void print_list(const char *name, const int64_t *values, size_t count)
{
    printf(" %s=", name);
    for (size_t i = 0; i < count; i++) {
        printf("%s%" PRId64, i ? "," : "", values[i * sizeof(step) / sizeof *values]);
    }
}

static void run_image(const esv_program *program, uint8_t *arena, size_t index, int counter,
                      step *steps)
{
    size_t count = 0;
    for (uint32_t i = 0; i < program->operators; count++) {
        i = timed_step(program, arena, i, counter, &steps[count]);
    }
    printf("layers index=%zu", index);
    print_list("first", &steps->first, count);
    print_list("ns", &steps->ns, count);
    print_list("instructions", &steps->instructions, count);
    putchar('\n');
    fflush(stdout);
}

void layers_run(const esv_program *program, uint8_t *arena, const uint8_t *images, size_t count,
                const int32_t *logits, uint32_t rounds, int counter)
{
    size_t bytes = program->classes * sizeof *logits;
    step *steps = malloc(program->operators * sizeof *steps);
    if (!steps) {
        probe_fail("layers", strerror(errno));
    }
    for (size_t i = 0; i < rounds * count; i++) {
        size_t image = i % count;
        memcpy(esv_input(program, arena), images + image * program->input_bytes,
               program->input_bytes);
        run_image(program, arena, image, counter, steps);
        if (memcmp(esv_logits(program, arena), logits + image * program->classes, bytes)) {
            probe_fail("layers", "an image gave other logits than before");
        }
    }
    free(steps);
}
