#include <string.h>

#include "esv_kernels.h"

/* A damaged program's list may name tokens that do not exist: the last one stands for them. */
static uint32_t token_of(const esv_chosen *c, const uint16_t *index, uint32_t i)
{
    return index[i] < c->tokens ? index[i] : c->tokens - 1;
}

void esv_gather_tokens(const esv_chosen *c, const uint16_t *index, const uint8_t *input,
                       uint8_t *out)
{
    for (uint32_t t = 0; t < c->planes; t++, input += c->tokens * c->token_bytes) {
        for (uint32_t i = 0; i < c->kept; i++, out += c->token_bytes) {
            memcpy(out, input + token_of(c, index, i) * c->token_bytes, c->token_bytes);
        }
    }
}

void esv_put_back_tokens(const esv_chosen *c, const uint16_t *index, const uint8_t *input,
                         const uint8_t *branch, uint8_t *out)
{
    uint32_t plane = c->tokens * c->token_bytes;
    if (out != input) {
        memcpy(out, input, c->planes * plane);
    }
    for (uint32_t t = 0; t < c->planes; t++, out += plane) {
        for (uint32_t i = 0; i < c->kept; i++, branch += c->token_bytes) {
            memcpy(out + token_of(c, index, i) * c->token_bytes, branch, c->token_bytes);
        }
    }
}
