#include "crew.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MOST_MEMBERS 64u

typedef struct {
    esv_crew crew; /* first: a pointer to it is one to this */
    pthread_t thread[MOST_MEMBERS];
    uint32_t started; /* threads, member i + 1 is thread[i] */
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    uint32_t round; /* counts calls of `run`; a member joins each once */
    uint32_t busy;  /* members that have not ended this round */
    int over;
    void (*part)(void *context, uint32_t index, uint32_t member);
    void *context;
    uint32_t parts, next; /* next is taken atomically */
} team;

typedef struct {
    team *team;
    uint32_t member;
} post;

static void take_parts(team *t, uint32_t member)
{
    uint32_t index;
    while ((index = __atomic_fetch_add(&t->next, 1, __ATOMIC_RELAXED)) < t->parts) {
        t->part(t->context, index, member);
    }
}

static void *stand_by(void *argument)
{
    post p = *(post *)argument;
    team *t = p.team;
    free(argument);
    pthread_mutex_lock(&t->lock);
    for (uint32_t seen = 0;; seen++) {
        while (t->round == seen && !t->over) {
            pthread_cond_wait(&t->begin, &t->lock);
        }
        if (t->over) {
            pthread_mutex_unlock(&t->lock);
            return NULL;
        }
        pthread_mutex_unlock(&t->lock);
        take_parts(t, p.member);
        pthread_mutex_lock(&t->lock);
        if (--t->busy == 0) {
            pthread_cond_signal(&t->end);
        }
    }
}

static void run(const esv_crew *crew,
                void (*part)(void *context, uint32_t index, uint32_t member), void *context,
                uint32_t parts)
{
    team *t = (team *)(uintptr_t)crew;
    pthread_mutex_lock(&t->lock);
    t->part = part;
    t->context = context;
    t->parts = parts;
    t->next = 0;
    t->busy = t->started;
    t->round++;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    take_parts(t, 0);
    pthread_mutex_lock(&t->lock);
    while (t->busy) {
        pthread_cond_wait(&t->end, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
}

static int start_threads(team *t, uint32_t threads)
{
    while (t->started + 1 < threads) {
        post *p = malloc(sizeof *p);
        if (!p) {
            return 0;
        }
        *p = (post){t, t->started + 1};
        if (pthread_create(&t->thread[t->started], NULL, stand_by, p) != 0) {
            free(p);
            return 0;
        }
        t->started++;
    }
    return 1;
}

/* What is made once for all runs; where there is no memory for it, nothing is. */
static void prepare(const esv_program *program, esv_crew *crew)
{
    uint64_t bytes = esv_prepared_bytes(program, crew->kernel);
    void *memory = aligned_alloc(64, bytes);
    if (memory) {
        esv_prepare(program, crew->kernel, memory);
        crew->prepared = memory;
        crew->prepared_bytes = bytes;
    }
}

#define MOST_NAME 16u

/* The road of this name, or ESV_ANY_ROAD. */
static enum esv_road road_of(const char *name)
{
    return !strcmp(name, "dense")   ? ESV_DENSE_ALONE
           : !strcmp(name, "lists") ? ESV_LISTS_ALONE
           : !strcmp(name, "masks") ? ESV_MASKS_FIRST
                                    : ESV_ANY_ROAD;
}

/* The kernels `name` is about, without what may stand behind a plus: the road, `dense`, `lists` or
 * `masks`. NULL: there are none. */
static const struct esv_spike_variant *kernels_of(const char *name, enum esv_road *road)
{
    char kernel[MOST_NAME] = "";
    const char *plus = name ? strchr(name, '+') : NULL;
    size_t length = plus ? (size_t)(plus - name) : 0;
    *road = plus ? road_of(plus + 1) : ESV_ANY_ROAD;
    if (!plus) {
        return crew_kernels(name);
    }
    if (length >= MOST_NAME || *road == ESV_ANY_ROAD) {
        return NULL;
    }
    memcpy(kernel, name, length);
    return crew_kernels(length ? kernel : NULL);
}

const esv_crew *crew_new(esv_program *program, const char *kernels, uint32_t threads)
{
    enum esv_road road;
    const struct esv_spike_variant *kernel = kernels_of(kernels, &road);
    team *t = calloc(1, sizeof *t);
    if (!kernel || !t) {
        free(t);
        return NULL;
    }
    threads = threads < 1 ? 1 : threads > MOST_MEMBERS ? MOST_MEMBERS : threads;
    uint32_t bytes = esv_work_bytes(program, kernel);
    t->crew = (esv_crew){.kernel = kernel, .road = road, .members = threads, .work_bytes = bytes,
                         .work = aligned_alloc(64, (size_t)bytes * threads),
                         .run = threads > 1 ? run : NULL};
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->begin, NULL);
    pthread_cond_init(&t->end, NULL);
    if (!t->crew.work || !start_threads(t, threads)) {
        crew_free(&t->crew);
        return NULL;
    }
    prepare(program, &t->crew);
    program->crew = &t->crew;
    return &t->crew;
}

void crew_free(const esv_crew *crew)
{
    team *t = (team *)(uintptr_t)crew;
    if (!t) {
        return;
    }
    pthread_mutex_lock(&t->lock);
    t->over = 1;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    for (uint32_t i = 0; i < t->started; i++) {
        pthread_join(t->thread[i], NULL);
    }
    free((void *)(uintptr_t)t->crew.prepared);
    free(t->crew.work);
    free(t);
}
