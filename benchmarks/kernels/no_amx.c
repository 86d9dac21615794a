/* no_amx PROGRAM [ARGUMENT...]: runs it with AMX refused, whatever library asks.
 *
 * A process must ask Linux before it may use AMX's tile registers: arch_prctl(ARCH_REQ_XCOMP_PERM).
 * A seccomp filter answers no; libraries then take their AVX-512 or AVX2 kernels. No processor that
 * this project deploys to has anything like AMX.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ASK_FOR_TILES 0x1023 /* ARCH_REQ_XCOMP_PERM */
#define FIELD(name) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, name))
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, count)

int main(int argc, char **argv)
{
    struct sock_filter filter[] = {
        FIELD(nr), SKIP_UNLESS(SYS_arch_prctl, 3),
        FIELD(args[0]), SKIP_UNLESS(ASK_FOR_TILES, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (argc < 2 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("no_amx");
        return 1;
    }
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 1;
}
