/* The measured windows of `edgesvit measure`: the same work over and over for a known time. */
#ifndef EDGESVIT_WINDOWS_H
#define EDGESVIT_WINDOWS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint32_t windows;
    double seconds;      /* each lasts at least this long and ten inferences */
    double idle_seconds; /* of doing nothing before them, for what the board draws at rest */
} window_plan;

/* Infer one of the images; ends the process when the result is not the one it gave before. */
typedef void (*window_work)(void *context, size_t image);

/* Take an option's value into the plan; 0 when `name` is none of --windows --seconds --idle. */
int windows_option(window_plan *plan, const char *name, const char *value);

/* A tenth of a window to warm up, idle, then the windows. A line is flushed where each begins and
 * ends, so that the host can match its clock with ours:
 *
 *     window index=I kind=idle|work edge=begin|end ns=CLOCK_MONOTONIC inferences=N
 *     samples index=I inferences=K ns=a,b,c,...
 *
 * Each sample is the time of K inferences in a row, K so large that they take a millisecond: the
 * clock and the recording then cost less than a thousandth. */
void windows_run(const window_plan *plan, size_t images, window_work work, void *context);

#ifdef __cplusplus
}
#endif

#endif
