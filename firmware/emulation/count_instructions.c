/* A plug-in for QEMU's user-mode emulation that counts the guest instructions of each inference.
 *
 *     qemu-aarch64 -plugin libcount.so,begin=0xADDR,end=0xADDR,out=FILE edgesvit-runner ...
 *
 * Writes one decimal number a line: the instructions executed between reaching `begin` and reaching
 * `end`.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

EXPORT int qemu_plugin_version = 1;

static uint64_t executed, executed_at_begin, begin_address, end_address;
static FILE *out;

static void on_begin(unsigned int cpu, void *data)
{
    (void)cpu;
    (void)data;
    executed_at_begin = executed;
}

static void on_end(unsigned int cpu, void *data)
{
    (void)cpu;
    (void)data;
    fprintf(out, "%" PRIu64 "\n", executed - executed_at_begin);
    fflush(out);
}

static void on_block(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &executed, count);
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(block, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        if (address == begin_address) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_begin, CB_NO_REGS, NULL);
        } else if (address == end_address) {
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_end, CB_NO_REGS, NULL);
        }
    }
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "begin=", 6) == 0) {
            begin_address = strtoull(argv[i] + 6, NULL, 0);
        } else if (strncmp(argv[i], "end=", 4) == 0) {
            end_address = strtoull(argv[i] + 4, NULL, 0);
        } else if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        }
    }
    if (!out || !begin_address || !end_address) {
        fprintf(stderr, "count_instructions: needs begin=, end= and a writable out=\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    return 0;
}
