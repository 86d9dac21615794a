#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

__attribute__((noinline)) void edgesvit_roi_begin(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline)) void edgesvit_roi_end(void) { __asm__ volatile("" ::: "memory"); }

void probe_fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, why);
    exit(1);
}

probe_file probe_map(const char *path)
{
    probe_file file = {0};
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        probe_fail(path, strerror(errno));
    }
    file.bytes = (size_t)st.st_size;
    if (file.bytes == 0) {
        probe_fail(path, "is empty");
    }
    void *at = mmap(NULL, file.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) {
        probe_fail(path, strerror(errno));
    }
    close(fd);
    file.data = at;
    return file;
}

int probe_open_counter(void)
{
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = PERF_TYPE_HARDWARE;
    attr.config = PERF_COUNT_HW_INSTRUCTIONS;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

int64_t probe_count(int fd)
{
    int64_t count = -1;
    if (fd < 0 || read(fd, &count, sizeof count) != (ssize_t)sizeof count) {
        return -1;
    }
    return count;
}

int64_t probe_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The highest byte of the arena that an inference wrote. */
size_t probe_used(const uint8_t *arena, size_t bytes)
{
    while (bytes && arena[bytes - 1] == PROBE_PAINT) {
        bytes--;
    }
    return bytes;
}

/* A field of /proc/self/status in bytes, -1 when it is not told. getrusage would not do: its peak
 * counts what the parent held before exec. */
long probe_status_bytes(const char *field)
{
    char line[128];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && kib < 0 && fgets(line, sizeof line, status)) {
        if (strncmp(line, field, strlen(field)) == 0) {
            kib = strtol(line + strlen(field) + 1, NULL, 10);
        }
    }
    if (status) {
        fclose(status);
    }
    return kib < 0 ? -1 : kib * 1024;
}

static size_t segments(const ElfW(Phdr) *header, size_t count, int writable)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (header[i].p_type == PT_LOAD && !(header[i].p_flags & PF_W) == !writable) {
            bytes += header[i].p_memsz;
        }
    }
    return bytes;
}

/* The folder of a file, links resolved; empty when there is no such file. */
static void folder_of(const char *path, char *folder)
{
    if (!realpath(path, folder)) {
        *folder = 0;
    }
    char *slash = strrchr(folder, '/');
    if (slash) {
        *slash = 0;
    }
}

typedef struct {
    char folder[PATH_MAX];
    int writable;
    size_t bytes;
} tally;

static int add_library(struct dl_phdr_info *library, size_t size, void *context)
{
    tally *t = context;
    char folder[PATH_MAX];
    (void)size;
    if (strchr(library->dlpi_name, '/')) { /* the executable itself has no name */
        folder_of(library->dlpi_name, folder);
        if (*folder && strcmp(folder, t->folder) == 0) {
            t->bytes += segments(library->dlpi_phdr, library->dlpi_phnum, t->writable);
        }
    }
    return 0;
}

size_t probe_loaded_bytes(int writable)
{
    tally t = {.writable = writable};
    folder_of("/proc/self/exe", t.folder);
    dl_iterate_phdr(add_library, &t);
    const ElfW(Phdr) *header = (const void *)getauxval(AT_PHDR); /* (AT_PHNUM) */
    return t.bytes + segments(header, getauxval(AT_PHNUM), writable);
}
