/* The part of LiteRT's C interface that the runner calls, version 2.3.0: libLiteRt.so of the
 * ai-edge-litert wheel has the functions, but no wheel has a header. Looked up by name at start, so
 * that another version without one of them is refused. Statuses are 0 when all went well.
 */
#ifndef EDGESVIT_LITERT_H
#define EDGESVIT_LITERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LITERT_CPU = 1, LITERT_FLOAT32 = 1, LITERT_INT32 = 2, LITERT_INT8 = 9 };
enum { LITERT_READ = 0, LITERT_WRITE = 1 };

typedef struct {
    unsigned rank : 7;
    unsigned has_strides : 1;
    int32_t dimensions[8];
    uint32_t strides[8];
} litert_layout;

typedef struct {
    int element;
    litert_layout layout;
} litert_tensor;

#define LITERT_FUNCTIONS(F)                                                                        \
    F(CreateEnvironment, (int, const void *, void **))                                             \
    F(CreateModelFromFile, (void *, const char *, void **))                                        \
    F(CreateOptions, (void **))                                                                    \
    F(SetOptionsHardwareAccelerators, (void *, int))                                               \
    F(CreateOpaqueOptions, (const char *, void *, void (*)(void *), void **))                      \
    F(AddOpaqueOptions, (void *, void *))                                                          \
    F(CreateCompiledModel, (void *, void *, void *, void **))                                      \
    F(CompiledModelIsFullyAccelerated, (void *, bool *))                                           \
    F(GetCompiledModelInputTensorLayout, (void *, size_t, size_t, litert_layout *))                \
    F(GetCompiledModelOutputTensorLayouts, (void *, size_t, size_t, litert_layout *, bool))        \
    F(GetCompiledModelInputBufferRequirements, (void *, size_t, size_t, void **))                  \
    F(GetCompiledModelOutputBufferRequirements, (void *, size_t, size_t, void **))                 \
    F(CreateManagedTensorBufferFromRequirements, (void *, const litert_tensor *, void *, void **)) \
    F(LockTensorBuffer, (void *, void **, int))                                                    \
    F(UnlockTensorBuffer, (void *))                                                                \
    F(RunCompiledModel, (void *, size_t, size_t, void **, size_t, void **))

typedef struct {
#define F(name, arguments) int(*name) arguments;
    LITERT_FUNCTIONS(F)
#undef F
} litert_api;

#endif
