#include "windows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "probe.h"

enum { LEAST_INFERENCES = 10, SAMPLE_NS = 1000000, MOST_SAMPLES = 1 << 20 };

int windows_option(window_plan *plan, const char *name, const char *value)
{
    if (strcmp(name, "--windows") == 0) {
        plan->windows = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(name, "--seconds") == 0) {
        plan->seconds = strtod(value, NULL);
    } else if (strcmp(name, "--idle") == 0) {
        plan->idle_seconds = strtod(value, NULL);
    } else {
        return 0;
    }
    return 1;
}

static void edge(uint32_t index, const char *kind, const char *which, uint64_t inferences)
{
    printf("window index=%" PRIu32 " kind=%s edge=%s ns=%" PRId64 " inferences=%" PRIu64 "\n",
           index, kind, which, probe_ns(), inferences);
    fflush(stdout);
}

static void idle(double seconds)
{
    struct timespec wait = {(time_t)seconds, 0};
    wait.tv_nsec = (long)((seconds - (double)wait.tv_sec) * 1e9);
    edge(0, "idle", "begin", 0);
    while (nanosleep(&wait, &wait) != 0) {
    }
    edge(0, "idle", "end", 0);
}

static void print_samples(uint32_t index, uint64_t each, const int64_t *ns, size_t count)
{
    printf("samples index=%" PRIu32 " inferences=%" PRIu64 " ns=", index, each);
    for (size_t i = 0; i < count; i++) {
        printf("%s%" PRId64, i ? "," : "", ns[i]);
    }
    putchar('\n');
    fflush(stdout);
}

/* Work for `seconds` and LEAST_INFERENCES; how many inferences that were. `count` samples of `each`
 * inferences go to ns (MOST_SAMPLES); without room the window goes on, unsampled. */
static uint64_t repeat(double seconds, size_t images, window_work work, void *context,
                       uint64_t each, int64_t *ns, size_t *count)
{
    uint64_t done = 0;
    int64_t begin = probe_ns(), last = begin;
    *count = 0;
    while (done < LEAST_INFERENCES || (double)(last - begin) < seconds * 1e9) {
        for (uint64_t i = 0; i < each; i++) {
            work(context, (size_t)(done++ % images));
        }
        int64_t now = probe_ns();
        if (*count < MOST_SAMPLES) {
            ns[(*count)++] = now - last;
        }
        last = now;
    }
    return done;
}

void windows_run(const window_plan *plan, size_t images, window_work work, void *context)
{
    int64_t *ns = malloc(MOST_SAMPLES * sizeof *ns); /* touched as it fills: no page is ours yet */
    size_t count;
    if (!ns) {
        probe_fail("windows", "no memory");
    }
    int64_t begin = probe_ns();
    uint64_t done = repeat(plan->seconds / 10, images, work, context, 1, ns, &count);
    uint64_t one_ns = (uint64_t)(probe_ns() - begin) / done + 1;
    uint64_t each = one_ns < SAMPLE_NS ? (SAMPLE_NS + one_ns - 1) / one_ns : 1;
    if (plan->idle_seconds > 0) {
        idle(plan->idle_seconds);
    }
    for (uint32_t i = 0; i < plan->windows; i++) {
        edge(i, "work", "begin", 0);
        done = repeat(plan->seconds, images, work, context, each, ns, &count);
        edge(i, "work", "end", done);
        print_samples(i, each, ns, count);
    }
    free(ns);
}
