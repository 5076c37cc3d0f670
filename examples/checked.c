/* SPDX-License-Identifier: Apache-2.0 */
#include "checked.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t checked_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/** Eight bytes of the stream; the finalizer of SplitMix64, so that neighbors have nothing alike. */
static uint64_t word_at(uint64_t seed, uint64_t index)
{
    uint64_t x = (seed << 48) + (index + 1) * 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void pattern(uint64_t seed, uint64_t pos, uint8_t *data, size_t len)
{
    while (len) {
        uint64_t word = word_at(seed, pos / 8);
        size_t skip = pos % 8, n = 8 - skip < len ? 8 - skip : len;

        memcpy(data, (const uint8_t *)&word + skip, n);
        data += n;
        pos += n;
        len -= n;
    }
}

/* ---- one connection ------------------------------------------------------------------------- */

static uint16_t name_client(char name[64], const struct sockaddr *addr)
{
    char text[INET6_ADDRSTRLEN];
    uint16_t port;

    if (addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)addr;

        inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
        port = ntohs(in->sin_port);
        snprintf(name, 64, "%s:%u", text, port);
    } else {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)addr;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&in->sin6_addr);

        if (mapped)
            inet_ntop(AF_INET, &in->sin6_addr.s6_addr[12], text, sizeof(text));
        else
            inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof(text));
        port = ntohs(in->sin6_port);
        snprintf(name, 64, mapped ? "%s:%u" : "[%s]:%u", text, port);
    }
    return port;
}

static void begin(struct checked *c, uint64_t seed)
{
    c->seed = seed;
    c->sha = EVP_MD_CTX_new();
    if (!c->sha || !EVP_DigestInit_ex(c->sha, EVP_sha256(), NULL)) {
        fprintf(stderr, "no SHA-256\n");
        exit(1);
    }
}

void checked_begin(struct checked_end *end, const struct sockaddr *client, bool is_client)
{
    uint64_t seed = (uint64_t)name_client(end->client, client) << 1;

    begin(&end->in, seed | is_client);
    begin(&end->out, seed | !is_client);
    end->in.last_us = end->paced_us = checked_now();
    end->allowed = 0;
}

void checked_free(struct checked_end *end)
{
    EVP_MD_CTX_free(end->in.sha);
    EVP_MD_CTX_free(end->out.sha);
}

size_t checked_allowance(struct checked_end *end, uint64_t rate, uint64_t now_us)
{
    uint64_t most = rate * CHECKED_CATCH_UP_US / 1000000, open;

    if (!rate)
        return CHECKED_CHUNK;
    end->allowed += rate * (now_us - end->paced_us) / 1000000;
    end->paced_us = now_us;
    if (end->allowed > end->out.pos + most)
        end->allowed = end->out.pos + most;
    open = end->allowed - end->out.pos;
    return open < CHECKED_CHUNK ? (size_t)open : CHECKED_CHUNK;
}

void checked_fill(const struct checked *out, uint8_t *data, size_t len)
{
    pattern(out->seed, out->pos, data, len);
}

void checked_sent(struct checked *out, const uint8_t *data, size_t len)
{
    EVP_DigestUpdate(out->sha, data, len);
    out->pos += len;
}

void checked_received(struct checked *in, const uint8_t *data, size_t len, uint64_t now_us,
                      struct checked_sums *sums)
{
    static uint8_t expected[CHECKED_CHUNK];
    uint64_t silence_us = now_us - in->last_us;

    pattern(in->seed, in->pos, expected, len);
    if (memcmp(data, expected, len) != 0)
        for (size_t i = 0; i < len; i++)
            if (data[i] != expected[i]) {
                in->mismatches++;
                sums->mismatches++;
            }
    EVP_DigestUpdate(in->sha, data, len);
    in->pos += len;
    in->last_us = now_us;
    if (silence_us > in->longest_us) {
        in->longest_us = silence_us;
        in->longest_end_us = now_us;
    }
    if (silence_us > sums->silence_us)
        sums->silence_us = silence_us;
    sums->received += len;
}

/* ---- reports -------------------------------------------------------------------------------- */

void checked_report_tick(struct checked_sums *sums)
{
    printf("{\"kind\":\"tick\",\"us\":%llu,\"received\":%llu,\"sent\":%llu,\"mismatches\":%llu,"
           "\"silence_us\":%llu,\"connections\":%u,\"opened\":%u,\"errors\":%u}\n",
           (unsigned long long)checked_now(), (unsigned long long)sums->received,
           (unsigned long long)sums->sent, (unsigned long long)sums->mismatches,
           (unsigned long long)sums->silence_us, sums->connections, sums->opened, sums->errors);
    fflush(stdout);
    sums->silence_us = 0;
}

static void print_direction(const char *name, struct checked *c)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    EVP_DigestFinal_ex(c->sha, digest, &len);
    printf("\"%s\":{\"bytes\":%llu,\"mismatches\":%llu,\"longest_us\":%llu,"
           "\"longest_end_us\":%llu,\"sha256\":\"",
           name, (unsigned long long)c->pos, (unsigned long long)c->mismatches,
           (unsigned long long)c->longest_us, (unsigned long long)c->longest_end_us);
    for (unsigned i = 0; i < len; i++)
        printf("%02x", digest[i]);
    printf("\"}");
}

void checked_report_end(struct checked_end *end, int error)
{
    printf("{\"kind\":\"end\",\"client\":\"%s\",\"error\":\"%s\",", end->client,
           error ? strerrorname_np(error) : "");
    print_direction("in", &end->in);
    printf(",");
    print_direction("out", &end->out);
    printf("}\n");
    fflush(stdout);
}

void checked_report_progress(const struct checked_end *end)
{
    printf("{\"kind\":\"progress\",\"client\":\"%s\",\"received\":%llu,\"sent\":%llu}\n",
           end->client, (unsigned long long)end->in.pos, (unsigned long long)end->out.pos);
}
