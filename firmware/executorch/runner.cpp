/* The board runner for ExecuTorch programs: the lines of firmware/linux/runner.c from a .pte file.
 *
 *     edgesvit-executorch [--threads N] [--layers ROUNDS] [--windows N --seconds S --idle S]
 *                         [--library LIB.so]... PROGRAM.pte IMAGES.bin
 *
 * With --layers every image runs ROUNDS times more, each time with a line
 *
 *     layers index=I first=0,1,4,... ns=a,b,c,... instructions=-1 names=a,b,c,...
 *
 * as firmware/linux/layers.h has it; `first` is -1 for operators that are not ours. Libraries bring
 * operators and backends and are looked for beside the program that names them with a slash. The
 * method `forward` takes one image, uint8 as IMAGES.bin holds it or the same numbers as float, and
 * gives class scores, int32 or float. Exit status: 0, or 1 with one line on stderr.
 */
#include <dlfcn.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <executorch/extension/data_loader/mmap_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>

#include "operators.h"
#include "probe.h"
#include "tracer.h"
#include "windows.h"

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::extension::MallocMemoryAllocator;
using executorch::extension::MmapDataLoader;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::HierarchicalAllocator;
using executorch::runtime::MemoryManager;
using executorch::runtime::Method;
using executorch::runtime::Program;
using executorch::runtime::Span;

struct Options {
    const char *program = nullptr, *images = nullptr;
    std::vector<const char *> libraries;
    uint32_t threads = 1, layer_rounds = 0;
    window_plan plan = {};
};

/* What the runtime says of an error, and the operators that it misses: it tells them nowhere else. */
std::string said;
std::set<std::string> missing;

void listen(et_timestamp_t, et_pal_log_level_t level, const char *, const char *, size_t,
            const char *message, size_t length)
{
    std::string text(message, length);
    if (text.rfind("Missing operator: ", 0) == 0) {
        missing.insert(text.substr(text.rfind(' ') + 1));
    } else if (said.empty() && (level == et_pal_log_level_t::kError ||
                                level == et_pal_log_level_t::kFatal)) {
        said = text; /* the first is the cause */
    }
}

/* The arena, and what the runtime allocates while it loads a method. */
struct Memory {
    std::vector<std::vector<uint8_t>> planned;
    std::vector<Span<uint8_t>> spans;
    MallocMemoryAllocator method, temporary;
    std::unique_ptr<HierarchicalAllocator> arena;
    std::unique_ptr<MemoryManager> manager;

    size_t bytes() const
    {
        size_t sum = 0;
        for (const auto &span : spans) {
            sum += span.size();
        }
        return sum;
    }
    size_t used() const
    {
        size_t sum = 0;
        for (const auto &span : spans) {
            sum += probe_used(span.data(), span.size());
        }
        return sum;
    }
};

[[noreturn]] void fail(const char *what, const std::string &why)
{
    probe_fail(what, why.c_str());
}

[[noreturn]] void fail(const char *what, Error error)
{
    if (error == Error::OperatorMissing && !missing.empty()) {
        std::string names;
        for (const std::string &name : missing) {
            names += (names.empty() ? "" : ", ") + name;
        }
        fail(what, "needs operators that no --library brings: " + names);
    }
    std::string why = executorch::runtime::to_string(error);
    fail(what, said.empty() ? why : why + " (" + said + ")");
}

Options parse(int argc, char **argv)
{
    Options o;
    int i = 1;
    for (; i + 1 < argc && std::strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (!std::strcmp(argv[i], "--threads")) {
            o.threads = (uint32_t)std::strtoul(argv[i + 1], nullptr, 10);
        } else if (!std::strcmp(argv[i], "--layers")) {
            o.layer_rounds = (uint32_t)std::strtoul(argv[i + 1], nullptr, 10);
        } else if (!std::strcmp(argv[i], "--library")) {
            o.libraries.push_back(argv[i + 1]);
        } else if (!windows_option(&o.plan, argv[i], argv[i + 1])) {
            fail(argv[i], "is no option");
        }
    }
    if (argc - i != 2) {
        fail("usage", "edgesvit-executorch [--threads N] [--layers ROUNDS] [--library LIB.so]... "
                      "PROGRAM.pte IMAGES.bin");
    }
    o.program = argv[i];
    o.images = argv[i + 1];
    return o;
}

template <class Function> Function find(const char *name)
{
    return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

void load_libraries(const Options &o)
{
    for (const char *library : o.libraries) {
        if (!dlopen(library, RTLD_NOW | RTLD_GLOBAL)) {
            fail("library", dlerror());
        }
    }
    if (auto set = find<void (*)(uint32_t)>("edgesvit_set_threads")) {
        set(o.threads);
    }
    /* The wheel ships no header for ExecuTorch's own thread pool. */
    auto pool = find<void *(*)()>("_ZN10executorch9extension10threadpool14get_threadpoolEv");
    auto reset = find<bool (*)(void *, uint32_t)>(
        "_ZN10executorch9extension10threadpool10ThreadPool24_unsafe_reset_threadpoolEj");
    if (pool && reset) {
        reset(pool(), o.threads);
    }
}

void plan_memory(const Program &program, const char *name, Memory &memory)
{
    auto meta = program.method_meta("forward");
    if (!meta.ok()) {
        fail(name, meta.error());
    }
    for (size_t i = 0; i < meta->num_memory_planned_buffers(); i++) {
        size_t bytes = (size_t)meta->memory_planned_buffer_size(i).get();
        memory.planned.emplace_back(bytes + 64, PROBE_PAINT);
        uint8_t *at = memory.planned.back().data();
        memory.spans.emplace_back(at + (64 - (uintptr_t)at % 64) % 64, bytes);
    }
    memory.arena = std::make_unique<HierarchicalAllocator>(
        Span<Span<uint8_t>>(memory.spans.data(), memory.spans.size()));
    memory.manager = std::make_unique<MemoryManager>(&memory.method, memory.arena.get(),
                                                     &memory.temporary);
}

/* The one image that `forward` takes: its own memory, copied into the arena by set_input. */
struct Input {
    std::vector<uint8_t> bytes;
    executorch::extension::TensorPtr tensor;

    explicit Input(const Method &method)
    {
        auto meta = method.method_meta();
        auto info = meta.input_tensor_meta(0);
        if (method.inputs_size() != 1 || !info.ok()) {
            fail("forward", "does not take one image");
        }
        bytes.resize(info->nbytes());
        tensor = executorch::extension::from_blob(
            bytes.data(), {info->sizes().begin(), info->sizes().end()}, info->scalar_type());
    }
    size_t elements() const { return (size_t)tensor->numel(); }
    void set(Method &method, const uint8_t *image)
    {
        if (tensor->scalar_type() == ScalarType::Float) {
            float *at = tensor->mutable_data_ptr<float>();
            for (size_t i = 0; i < elements(); i++) {
                at[i] = image[i];
            }
        } else {
            std::memcpy(bytes.data(), image, elements());
        }
        Error error = method.set_input(EValue(tensor), 0);
        if (error != Error::Ok) {
            fail("image", error);
        }
    }
};

void execute(Method &method)
{
    Error error = method.execute();
    if (error != Error::Ok) {
        fail("forward", error);
    }
}

void print_logits(const Tensor &logits)
{
    for (ssize_t c = 0; c < logits.numel(); c++) {
        if (logits.scalar_type() == ScalarType::Float) {
            std::printf("%s%.9g", c ? "," : "", (double)logits.const_data_ptr<float>()[c]);
        } else {
            std::printf("%s%" PRId32, c ? "," : "", logits.const_data_ptr<int32_t>()[c]);
        }
    }
}

void run_image(Method &method, Input &input, const uint8_t *image, size_t index, int counter)
{
    input.set(method, image);
    int64_t start = probe_ns();
    int64_t count = probe_count(counter);
    edgesvit_roi_begin();
    Error error = method.execute();
    edgesvit_roi_end();
    int64_t instructions = counter < 0 ? -1 : probe_count(counter) - count;
    int64_t ns = probe_ns() - start;
    if (error != Error::Ok) {
        fail("forward", error);
    }
    std::printf("image index=%zu ns=%" PRId64 " instructions=%" PRId64 " logits=", index, ns,
                instructions);
    print_logits(method.get_output(0).toTensor());
    std::putchar('\n');
    std::fflush(stdout);
}

void run_layers(Method &method, Input &input, edgesvit::Tracer &tracer, const probe_file &images,
                uint32_t rounds)
{
    size_t count = images.bytes / input.elements();
    for (size_t i = 0; i < rounds * count; i++) {
        input.set(method, images.data + i % count * input.elements());
        tracer.steps.clear();
        tracer.on = true;
        execute(method);
        tracer.on = false;
        tracer.print(i % count);
    }
}

struct Repeated {
    Method &method;
    Input &input;
    const uint8_t *images; /* (images, elements) */
    std::vector<std::vector<uint8_t>> logits;

    void keep()
    {
        const Tensor &scores = method.get_output(0).toTensor();
        const uint8_t *at = static_cast<const uint8_t *>(scores.const_data_ptr());
        logits.emplace_back(at, at + scores.nbytes());
    }
};

void repeat_image(void *context, size_t index)
{
    Repeated &all = *static_cast<Repeated *>(context);
    all.input.set(all.method, all.images + index * all.input.elements());
    execute(all.method);
    const void *at = all.method.get_output(0).toTensor().const_data_ptr();
    if (std::memcmp(at, all.logits[index].data(), all.logits[index].size()) != 0) {
        fail("windows", "an image gave other logits than before");
    }
}

edgesvit_description describe()
{
    edgesvit_description d{};
    if (auto tell = find<void (*)(edgesvit_description *)>("edgesvit_describe")) {
        tell(&d);
    }
    return d;
}

/* Run once so that nothing is opened while a clock runs, then the program's own check vector. */
void check(Method &method, Input &input, const Options &o)
{
    std::vector<uint8_t> blank(input.elements());
    input.set(method, blank.data());
    execute(method);
    edgesvit_description d = describe();
    if (!d.check_input || d.input_bytes != input.elements()) {
        return;
    }
    input.set(method, d.check_input);
    execute(method);
    const Tensor &logits = method.get_output(0).toTensor();
    if (logits.nbytes() != 4 * d.classes ||
        std::memcmp(logits.const_data_ptr(), d.check_logits, logits.nbytes()) != 0) {
        fail(o.program, "self-check failed");
    }
    std::puts("check pass");
}

void print_program(const Method &method, const Memory &memory, const Options &o, size_t input)
{
    edgesvit_description d = describe();
    std::printf("program crc=%08" PRIx32 " steps=%" PRIu32 " input=%zu classes=%zu arena=%zu "
                "work=%" PRIu64 " threads=%" PRIu32 " kernels=%s\n",
                d.crc, d.time_steps, input, (size_t)method.get_output(0).toTensor().numel(),
                memory.bytes(), d.work_bytes, o.threads, d.kernels ? d.kernels : "executorch");
}

} // namespace

int main(int argc, char **argv)
{
    executorch::runtime::register_pal(
        executorch::runtime::PalImpl::create(listen, "edgesvit-executorch"));
    executorch::runtime::runtime_init();
    Options o = parse(argc, argv);
    load_libraries(o);
    said.clear(); /* a library that asks whether an operator is there makes it complain */
    auto loader = MmapDataLoader::from(o.program, MmapDataLoader::MlockConfig::NoMlock);
    if (!loader.ok()) {
        fail(o.program, loader.error());
    }
    auto program = Program::load(&*loader, Program::Verification::InternalConsistency);
    if (!program.ok()) {
        fail(o.program, program.error());
    }
    Memory memory;
    plan_memory(*program, o.program, memory);
    edgesvit::Tracer tracer; /* without --layers none is given: nothing is asked, nothing costs */
    tracer.number = find<int64_t (*)()>("edgesvit_last_operator");
    auto method = program->load_method("forward", memory.manager.get(),
                                       o.layer_rounds ? &tracer : nullptr);
    if (!method.ok()) {
        fail(o.program, method.error());
    }
    Input input(*method);
    size_t elements = input.elements();
    probe_file images = probe_map(o.images);
    if (images.bytes % elements) {
        fail(o.images, "is no whole number of images");
    }
    check(*method, input, o);
    print_program(*method, memory, o, elements);
    int counter = probe_open_counter();
    size_t count = images.bytes / elements;
    Repeated all{*method, input, images.data, {}};
    for (size_t i = 0; i < count; i++) {
        run_image(*method, input, images.data + i * elements, i, counter);
        all.keep();
    }
    if (o.plan.windows) {
        windows_run(&o.plan, count, repeat_image, &all);
    }
    run_layers(*method, input, tracer, images, o.layer_rounds);
    std::printf("memory file=%zu arena=%zu arena_used=%zu code=%zu data=%zu stack=%ld "
                "peak_rss=%ld\n",
                (size_t)loader->size().get(), memory.bytes(), memory.used(),
                probe_loaded_bytes(0), probe_loaded_bytes(1), probe_status_bytes("VmStk"),
                probe_status_bytes("VmHWM"));
    std::printf("done images=%zu\n", count);
    return 0;
}
