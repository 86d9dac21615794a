/* A plug-in for QEMU's user-mode emulation that counts instructions between marks.
 *
 *     qemu-aarch64 -plugin libmarks.so,out=FILE[,blocks=yes][,begin=0xADDR,end=0xADDR] PROGRAM
 *
 * A mark is the system call getppid, which no library calls of its own accord, or reaching the
 * function at `begin` or `end`. Writes `mark N` for each, N the instructions of the whole process so
 * far; with blocks=yes, at the end, `block ADDRESS INSTRUCTIONS EXECUTIONS` for what ran between the
 * first and the second mark.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define GETPPID 173 /* on aarch64 */

EXPORT int qemu_plugin_version = 1;

typedef struct block {
    struct block *next;
    uint64_t address, instructions, executions, before; /* before the first mark */
    uint64_t counted; /* between the marks */
} block;

static uint64_t executed, edges[2]; /* edges: begin and end */
static block *blocks;
static int marks, with_blocks;
static FILE *out;

static block *block_of(uint64_t address, uint64_t instructions)
{
    for (block *b = blocks; b; b = b->next) {
        if (b->address == address && b->instructions == instructions) {
            return b;
        }
    }
    block *b = calloc(1, sizeof *b);
    if (!b) {
        abort();
    }
    *b = (block){.next = blocks, .address = address, .instructions = instructions};
    return blocks = b;
}

static void mark(unsigned int cpu, void *data)
{
    (void)cpu, (void)data;
    fprintf(out, "mark %" PRIu64 "\n", executed);
    for (block *k = blocks; k && marks < 2; k = k->next) {
        k->counted = k->executions - k->before;
        k->before = k->executions;
    }
    marks++;
}

static void on_block(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(tb);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &executed, count);
    if (with_blocks) {
        block *b = block_of(qemu_plugin_tb_vaddr(tb), count);
        qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &b->executions, 1);
    }
    uint64_t address = qemu_plugin_tb_vaddr(tb); /* a function that is called starts a block */
    if (address && (address == edges[0] || address == edges[1])) {
        qemu_plugin_register_vcpu_insn_exec_cb(qemu_plugin_tb_get_insn(tb, 0), mark, CB_NO_REGS,
                                               NULL);
    }
}

static void on_syscall(plugin_id id, unsigned int cpu, int64_t number, uint64_t a, uint64_t b,
                       uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == GETPPID) {
        mark(cpu, NULL);
    }
}

static void at_exit(plugin_id id, void *data)
{
    (void)id, (void)data;
    for (block *b = blocks; b; b = b->next) {
        if (b->counted) {
            fprintf(out, "block %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->address,
                    b->instructions, b->counted);
        }
    }
    fclose(out);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        }
        with_blocks |= strncmp(argv[i], "blocks=", 7) == 0;
        if (strncmp(argv[i], "begin=", 6) == 0) {
            edges[0] = strtoull(argv[i] + 6, NULL, 0);
        }
        if (strncmp(argv[i], "end=", 4) == 0) {
            edges[1] = strtoull(argv[i] + 4, NULL, 0);
        }
    }
    if (!out) {
        fprintf(stderr, "count_marks: needs a writable out=\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
