#include "esv_format.h"

static uint16_t u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t u32(const uint8_t *at)
{
    return u16(at) | (uint32_t)u16(at + 2) << 16;
}

esv_header esv_read_header(const uint8_t *file)
{
    esv_header h = {
        .version = u16(file + 4), .file_bytes = u32(file + 8), .crc = u32(file + 12),
        .time_steps = file[16], .values = u16(file + 18), .ops = u16(file + 20),
        .input = u16(file + 22), .output = u16(file + 24), .arena_bytes = u32(file + 28),
        .values_at = u32(file + 32), .ops_at = u32(file + 36),
        .check_input_at = u32(file + 40), .check_logits_at = u32(file + 44),
    };
    return h;
}

esv_value esv_read_value(const uint8_t *file, const esv_header *header, uint32_t index)
{
    const uint8_t *at = file + header->values_at + index * ESV_VALUE_BYTES;
    esv_value v = {
        .kind = at[0], .max_level = u16(at + 2), .height = u16(at + 4), .width = u16(at + 6),
        .channels = u16(at + 8), .arena_offset = u32(at + 12),
    };
    return v;
}

esv_op esv_read_op(const uint8_t *file, const esv_header *header, uint32_t index)
{
    const uint8_t *at = file + header->ops_at + index * ESV_OP_BYTES;
    esv_op op = {
        .code = at[0], .kernel = at[1], .stride = at[2], .pad = at[3],
        .source = {u16(at + 4), u16(at + 6), u16(at + 8)}, .output = u16(at + 10),
        .heads = u16(at + 12), .number = (uint16_t)index, .pool = at[14], .pool_stride = at[15],
        .weight_at = u32(at + 16), .bias_at = u32(at + 20),
        .threshold_at = u32(at + 24), .extra_at = u32(at + 28), .threshold = (int32_t)u32(at + 32),
        .shift = at[36], .bits = at[37], .scratch_at = u32(at + 40), .scratch_bytes = u32(at + 44),
    };
    return op;
}

uint32_t esv_crc32(const uint8_t *bytes, uint32_t count)
{
    /* Four bits at a time: a 64-byte table instead of a kilobyte of flash. */
    static const uint32_t table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158,
        0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4,
        0xA00AE278, 0xBDBDF21C,
    };
    uint32_t crc = 0xFFFFFFFF;
    for (uint32_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

uint64_t esv_value_bytes(const esv_value *value, uint8_t time_steps)
{
    uint64_t elements = (uint64_t)value->height * value->width * value->channels;
    switch (value->kind) {
    case ESV_LEVELS:
        return elements * time_steps;
    case ESV_INDEX:
        return elements * 2;
    case ESV_LOGITS:
        return elements * 4;
    case ESV_MEMBRANE:
        return elements * 2 * time_steps;
    default:
        return elements;
    }
}
