/* What each operator of an ExecuTorch program takes: the runtime tells a tracer where each begins
 * and ends, and XNNPACK what each of its own took. */
#ifndef EDGESVIT_EXECUTORCH_TRACER_H
#define EDGESVIT_EXECUTORCH_TRACER_H

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <executorch/runtime/core/event_tracer.h>

#include "probe.h"

namespace edgesvit {

namespace et = executorch::runtime;

/* One operator: `first` is its number in the spike program, -1 of all that are not ours. */
struct Step {
    std::string name;
    int64_t first, ns;
};

/* Listens while `on`; what it heard since it was cleared is in `steps`, in the order of the
 * program. `number` tells which of our operators ran last. */
class Tracer final : public et::EventTracer {
public:
    std::vector<Step> steps;
    bool on = false;
    int64_t (*number)() = nullptr;

    et::EventTracerEntry start_profiling(const char *name, et::ChainID,
                                         et::DebugHandle) override
    {
        et::EventTracerEntry entry{};
        if (on && is_call(name)) {
            entry.event_id = 1;
            delegated_ = false;
            kernel_.clear();
            entry.start_time = (et_timestamp_t)probe_ns();
            edgesvit_roi_begin(); /* a counting emulator sees each operator */
        } else if (on && !std::strncmp(name, "native_call_", 12)) {
            kernel_ = name + 12;
        }
        return entry;
    }

    void end_profiling(et::EventTracerEntry entry) override
    {
        if (!on || entry.event_id != 1) {
            return;
        }
        edgesvit_roi_end();
        int64_t ns = probe_ns() - (int64_t)entry.start_time;
        if (delegated_) { /* its own operators stand for it; the rest is what it spends between */
            steps.push_back({"XNNPACK_rest", -1, ns > inside_ ? ns - inside_ : 0});
        } else {
            bool ours = kernel_.empty() && number;
            steps.push_back({ours ? "edgesvit" : kernel_, ours ? number() : -1, ns});
        }
        inside_ = 0;
    }

    void log_profiling_delegate(const char *name, et::DelegateDebugIntId, et_timestamp_t start,
                                et_timestamp_t end, const void *, size_t) override
    {
        if (on && name) {
            delegated_ = true;
            inside_ += (int64_t)(end - start); /* the ticks of a system with a clock are ns */
            steps.push_back({word(name), -1, (int64_t)(end - start)});
        }
    }

    /* As a line of the runner's, for image `index`. */
    void print(size_t index) const
    {
        std::string firsts, times, names;
        for (const Step &step : steps) {
            const char *comma = names.empty() ? "" : ",";
            firsts += comma + std::to_string(step.first);
            times += comma + std::to_string(step.ns);
            names += comma + step.name;
        }
        std::printf("layers index=%zu first=%s ns=%s instructions=-1 names=%s\n", index,
                    firsts.c_str(), times.c_str(), names.c_str());
        std::fflush(stdout);
    }

    void create_event_block(const char *) override {}
    et::EventTracerEntry start_profiling_delegate(const char *, et::DelegateDebugIntId) override
    {
        return {};
    }
    void end_profiling_delegate(et::EventTracerEntry, const void *, size_t) override {}
    void track_allocation(et::AllocatorID, size_t) override {}
    et::AllocatorID track_allocator(const char *) override { return 0; }
    et::Result<bool> log_evalue(const et::EValue &, et::LoggedEValueType) override { return false; }
    et::Result<bool> log_intermediate_output_delegate(
        const char *, et::DelegateDebugIntId, const executorch::aten::Tensor &) override
    {
        return false;
    }
    et::Result<bool> log_intermediate_output_delegate(
        const char *, et::DelegateDebugIntId,
        const et::ArrayRef<executorch::aten::Tensor>) override
    {
        return false;
    }
    et::Result<bool> log_intermediate_output_delegate(const char *, et::DelegateDebugIntId,
                                                      const int &) override
    {
        return false;
    }
    et::Result<bool> log_intermediate_output_delegate(const char *, et::DelegateDebugIntId,
                                                      const bool &) override
    {
        return false;
    }
    et::Result<bool> log_intermediate_output_delegate(const char *, et::DelegateDebugIntId,
                                                      const double &) override
    {
        return false;
    }
    void set_delegation_intermediate_output_filter(et::EventTracerFilterBase *) override {}

private:
    static bool is_call(const char *name)
    {
        return !std::strcmp(name, "OPERATOR_CALL") || !std::strcmp(name, "DELEGATE_CALL");
    }
    /* As a value of a `key=value,value` line: no blank, no comma. */
    static std::string word(std::string text)
    {
        for (char &c : text) {
            c = c == ' ' || c == ',' || c == '=' ? '_' : c;
        }
        return text;
    }

    bool delegated_ = false;
    int64_t inside_ = 0;
    std::string kernel_;
};

} // namespace edgesvit

#endif
