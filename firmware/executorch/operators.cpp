/* The operators of a spike program for ExecuTorch: `edgesvit::spike_conv.out` and so on, over the
 * kernels and the runtime of every other road, so that the bytes are the same.
 *
 *     NAME.out(Tensor program, int index, Tensor[] inputs, int[] layout, *,
 *              Tensor(a!) out..., Tensor(z!) scratch) -> (Tensor(a!)..., Tensor(z!))
 *
 * program: uint8, a whole .esv file; index: the operator in it; layout: for who plans ahead of time,
 * not looked at here. NAME_2 to NAME_4 stand for siblings, operators that share what they sort.
 * The file is checked once for each thread that runs it: nothing is read or written outside the
 * tensors, whatever it holds.
 */
#include <cstring>

#include <executorch/runtime/core/evalue.h>
#include <executorch/runtime/kernel/kernel_runtime_context.h>
#include <executorch/runtime/kernel/operator_registry.h>
#include <executorch/runtime/platform/log.h>

#include "operators.h"

extern "C" {
#include "crew.h"
#include "esv_format.h"
#include "esv_siblings.h"
#include "spike_conv.h"
}

namespace {

using executorch::aten::Tensor;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::Kernel;
using executorch::runtime::KernelRuntimeContext;
using executorch::runtime::Span;

/* A program in use by one thread, with memory and threads of its own. */
struct Opened {
    const uint8_t *file = nullptr;
    esv_program program{};
    const esv_crew *crew = nullptr;

    ~Opened() { close(); }
    void close()
    {
        crew_free(crew);
        crew = nullptr;
        file = nullptr;
    }
    /* The same bytes at the same place: the checksum stands for them all. */
    bool holds(const uint8_t *at, size_t bytes) const
    {
        return file == at && program.file_bytes <= bytes && esv_read_header(at).crc == program.crc;
    }
};

constexpr size_t kKept = 4; /* programs that a thread may run in turn without opening them again */
thread_local Opened kept[kKept];
thread_local size_t newest = 0;
uint32_t threads = 1;
thread_local int64_t last_operator = -1;

const Opened *open(const uint8_t *file, size_t bytes)
{
    if (kept[newest].holds(file, bytes)) {
        return &kept[newest];
    }
    for (size_t i = 0; i < kKept; i++) {
        if (kept[i].file && kept[i].holds(file, bytes)) {
            newest = i;
            return &kept[i];
        }
    }
    Opened &place = kept[(newest + 1) % kKept];
    place.close();
    esv_status status = esv_open(&place.program, file, (uint32_t)bytes);
    if (status == ESV_OK && !(place.crew = crew_new(&place.program, nullptr, threads))) {
        status = ESV_BAD_HEADER;
    }
    if (status != ESV_OK) {
        ET_LOG(Error, "edgesvit operators: program constant: %s", esv_status_text(status));
        return nullptr;
    }
    place.file = file;
    newest = (newest + 1) % kKept;
    return &place;
}

/* The data of a tensor when it has exactly the bytes of value `index`. */
uint8_t *data_of(const esv_program &program, const esv_header &h, uint32_t index,
                 const EValue &value)
{
    if (!value.isTensor()) {
        return nullptr;
    }
    const Tensor &tensor = value.toTensor();
    esv_value v = esv_read_value(program.file, &h, index);
    bool fits = tensor.nbytes() == esv_value_bytes(&v, h.time_steps);
    return fits ? static_cast<uint8_t *>(tensor.mutable_data_ptr()) : nullptr;
}

bool find_sources(const esv_program &program, const esv_header &h, const esv_op &op,
                  EValue &list, uint8_t *source[3])
{
    auto inputs = list.toTensorList();
    size_t wanted = 0;
    for (; wanted < 3 && op.source[wanted] < h.values; wanted++) {
        if (wanted >= inputs.size()) {
            return false;
        }
        esv_value v = esv_read_value(program.file, &h, op.source[wanted]);
        if (inputs[wanted].nbytes() != esv_value_bytes(&v, h.time_steps)) {
            return false;
        }
        source[wanted] = static_cast<uint8_t *>(inputs[wanted].mutable_data_ptr());
    }
    return wanted == inputs.size();
}

bool run(Span<EValue *> stack, uint8_t code, uint32_t count)
{
    if (stack.size() < 5 + count) {
        return false;
    }
    const Tensor &constant = stack[0]->toTensor();
    if (constant.nbytes() < ESV_HEADER_BYTES) {
        return false;
    }
    const Opened *opened = open(constant.const_data_ptr<uint8_t>(), constant.nbytes());
    int64_t index = stack[1]->toInt();
    if (!opened || index < 0 || index >= opened->program.operators) {
        return false;
    }
    const esv_program &program = opened->program;
    esv_header h = esv_read_header(program.file);
    esv_op op = esv_read_op(program.file, &h, (uint32_t)index);
    uint8_t *source[3] = {}, *target[ESV_MOST_SIBLINGS] = {};
    if (op.code != code || (count > 1 && esv_siblings(&program, (uint32_t)index) < count) ||
        !find_sources(program, h, op, *stack[2], source)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        esv_op sibling = esv_read_op(program.file, &h, (uint32_t)index + i);
        if (!(target[i] = data_of(program, h, sibling.output, *stack[4 + i]))) {
            return false;
        }
    }
    Tensor &scratch = stack[4 + count]->toTensor();
    void *at = scratch.mutable_data_ptr();
    if (scratch.nbytes() < op.scratch_bytes || (uintptr_t)at % ESV_ALIGN) {
        return false;
    }
    esv_run_at(&program, (uint32_t)index, count, source, target, at);
    last_operator = index;
    return true;
}

template <uint8_t code, uint32_t count>
void boxed(KernelRuntimeContext &context, Span<EValue *> stack)
{
    if (!run(stack, code, count)) {
        context.fail(Error::InvalidArgument);
    }
}

/* In the order of esv_code. */
const Kernel kernels[] = {
    Kernel("edgesvit::encode_conv.out", boxed<ESV_ENCODE_CONV, 1>),
    Kernel("edgesvit::spike_conv.out", boxed<ESV_SPIKE_CONV, 1>),
    Kernel("edgesvit::spike_conv_2.out", boxed<ESV_SPIKE_CONV, 2>),
    Kernel("edgesvit::spike_conv_3.out", boxed<ESV_SPIKE_CONV, 3>),
    Kernel("edgesvit::spike_conv_4.out", boxed<ESV_SPIKE_CONV, 4>),
    Kernel("edgesvit::max_pool.out", boxed<ESV_MAX_POOL, 1>),
    Kernel("edgesvit::add.out", boxed<ESV_ADD, 1>),
    Kernel("edgesvit::self_attention.out", boxed<ESV_SELF_ATTENTION, 1>),
    Kernel("edgesvit::classify.out", boxed<ESV_CLASSIFY, 1>),
    Kernel("edgesvit::token_attention.out", boxed<ESV_TOKEN_ATTENTION, 1>),
    Kernel("edgesvit::depthwise_conv.out", boxed<ESV_DEPTHWISE_CONV, 1>),
    Kernel("edgesvit::fire.out", boxed<ESV_FIRE, 1>),
    Kernel("edgesvit::hadamard_attention.out", boxed<ESV_HADAMARD_ATTENTION, 1>),
    Kernel("edgesvit::choose_tokens.out", boxed<ESV_CHOOSE_TOKENS, 1>),
    Kernel("edgesvit::gather.out", boxed<ESV_GATHER, 1>),
    Kernel("edgesvit::put_back.out", boxed<ESV_PUT_BACK, 1>),
};

/* A second copy of this library in a process leaves the first one's operators in place: the
 * registry would end the process. */
const bool registered = [] {
    if (executorch::runtime::registry_has_op_function(kernels[0].name_)) {
        return false;
    }
    return executorch::runtime::register_kernels({kernels, sizeof kernels / sizeof *kernels}) ==
           Error::Ok;
}();

} // namespace

extern "C" {

void edgesvit_set_threads(uint32_t count)
{
    threads = count;
}

int64_t edgesvit_last_operator(void)
{
    return last_operator;
}

void edgesvit_describe(edgesvit_description *out)
{
    *out = {};
    const Opened &last = kept[newest];
    if (!last.file) {
        return;
    }
    out->kernels = last.crew->kernel->name;
    out->threads = last.crew->members;
    out->work_bytes = (uint64_t)last.crew->work_bytes * last.crew->members +
                      last.crew->prepared_bytes;
    out->crc = last.program.crc;
    out->time_steps = last.program.time_steps;
    out->input_bytes = last.program.input_bytes;
    out->classes = last.program.classes;
    out->check_input = esv_check_input(&last.program);
    out->check_logits = esv_check_logits(&last.program);
}

} // extern "C"
