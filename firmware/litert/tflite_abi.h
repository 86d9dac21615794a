/* The part of TensorFlow Lite's C interface that a delegate touches, declared here because no wheel
 * brings a header. The layouts are those of tflite-runtime 2.14 to ai-edge-litert 2.3 on 64-bit
 * machines; the delegate compares what it reads through them with what the program says, and
 * refuses to run where they differ.
 */
#ifndef EDGESVIT_TFLITE_ABI_H
#define EDGESVIT_TFLITE_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TFL_OK = 0, TFL_ERROR = 1 };
enum { TFL_INT32 = 2, TFL_UINT8 = 3 };
enum { TFL_DELEGATE_NODE = 51 };
/* Without it the runtime prepares the custom operator, which it does not know, before it asks. */
enum { TFL_ALLOW_DYNAMIC_TENSORS = 1 };

typedef struct {
    int size;
    int data[];
} tfl_ints;

typedef struct {
    int type;
    void *data;
    tfl_ints *dims;
    float scale;
    int32_t zero_point;
    int allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    void *delegate;
    int buffer_handle;
    bool stale, is_variable;
    struct {
        int type;
        void *parameters;
    } quantization;
    void *sparsity;
    const tfl_ints *dims_signature;
} tfl_tensor;

typedef struct tfl_context tfl_context;
typedef struct tfl_delegate tfl_delegate;

typedef struct {
    tfl_ints *inputs, *outputs, *intermediates, *temporaries;
    void *user_data, *builtin_data;
    const void *custom_data;
    int custom_bytes;
    tfl_delegate *delegate;
    bool might_have_side_effect;
} tfl_node;

typedef struct {
    void *(*init)(tfl_context *, const char *, size_t);
    void (*free)(tfl_context *, void *);
    int (*prepare)(tfl_context *, tfl_node *);
    int (*invoke)(tfl_context *, tfl_node *);
    const char *(*profiling_string)(const tfl_context *, const tfl_node *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *registration_external, *async_kernel;
    uint64_t inplace_operator;
} tfl_registration;

struct tfl_context {
    size_t tensors_size;
    int (*execution_plan)(tfl_context *, tfl_ints **);
    tfl_tensor *tensors;
    void *impl;
    int (*resize_tensor)(tfl_context *, tfl_tensor *, tfl_ints *);
    void (*report_error)(tfl_context *, const char *, ...);
    int (*add_tensors)(tfl_context *, int, int *);
    int (*node_and_registration)(tfl_context *, int, tfl_node **, tfl_registration **);
    int (*replace_nodes)(tfl_context *, tfl_registration, const tfl_ints *, tfl_delegate *);
};

struct tfl_delegate {
    void *data;
    int (*prepare)(tfl_context *, tfl_delegate *);
    void *copy_from, *copy_to, *free_buffer;
    int64_t flags;
    void *opaque_builder;
};

typedef struct {
    tfl_delegate *delegate;
    tfl_ints *nodes, *inputs, *outputs;
} tfl_delegate_parameters;

#endif
