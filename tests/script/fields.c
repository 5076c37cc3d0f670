/* SPDX-License-Identifier: Apache-2.0 */
/* The names a script has for the engine's fields, flags and events, and their values as words. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "script.h"

#define FIELD(name, type, member, kind)                                                            \
    {                                                                                              \
        name, offsetof(struct type, member), kind                                                  \
    }

const struct field delegated_fields[] = {
    FIELD("state", tcp_delegated_state, state, STATE),
    FIELD("rcv_nxt", tcp_delegated_state, rcv_nxt, RCV_SEQ),
    FIELD("rcv_wnd", tcp_delegated_state, rcv_wnd, U32),
    FIELD("snd_una", tcp_delegated_state, snd_una, SND_SEQ),
    FIELD("snd_nxt", tcp_delegated_state, snd_nxt, SND_SEQ),
    FIELD("snd_max", tcp_delegated_state, snd_max, SND_SEQ),
    FIELD("snd_max_possible", tcp_delegated_state, snd_max_possible, SND_SEQ),
    FIELD("snd_wnd", tcp_delegated_state, snd_wnd, U32),
    FIELD("max_snd_wnd", tcp_delegated_state, max_snd_wnd, U32),
    FIELD("snd_wl1", tcp_delegated_state, snd_wl1, RCV_SEQ),
    FIELD("cwnd", tcp_delegated_state, cwnd, U32),
    FIELD("ssthresh", tcp_delegated_state, ssthresh, U32),
    FIELD("srtt", tcp_delegated_state, srtt, TICKS8),
    FIELD("rttvar", tcp_delegated_state, rttvar, TICKS4),
    FIELD("ts_recent", tcp_delegated_state, ts_recent, PEER_STAMP),
    FIELD("ts_recent_age", tcp_delegated_state, ts_recent_age, TICKS),
    FIELD("ts_time", tcp_delegated_state, ts_time, OUR_STAMP),
    FIELD("ts_last", tcp_delegated_state, ts_last, OUR_STAMP),
    FIELD("total_rt", tcp_delegated_state, total_rt, TICKS),
    FIELD("dup_ack_count", tcp_delegated_state, dup_ack_count, U8),
    FIELD("snd_wnd_probe_count", tcp_delegated_state, snd_wnd_probe_count, U8),
    FIELD("ka_probe_count", tcp_delegated_state, ka_probe_count, U8),
    FIELD("ka_timeout_delta", tcp_delegated_state, ka_timeout_delta, TICKS),
    FIELD("retransmit_count", tcp_delegated_state, retransmit_count, U8),
    FIELD("retransmit_timeout_delta", tcp_delegated_state, retransmit_timeout_delta, TICKS),
    FIELD("reordering", tcp_delegated_state, reordering, U32),
    {0},
};
const struct field constant_fields[] = {
    FIELD("snd_wind_scale", tcp_import, constant.snd_wind_scale, U8),
    FIELD("rcv_wind_scale", tcp_import, constant.rcv_wind_scale, U8),
    FIELD("remote_mss", tcp_import, constant.remote_mss, U16),
    {0}};
const struct field cached_fields[] = {
    FIELD("initial_rcv_wnd", tcp_cached_state, initial_rcv_wnd, U32),
    FIELD("path_mtu", tcp_cached_state, path_mtu, U32),
    FIELD("ka_probes", tcp_cached_state, ka_probe_count, U8),
    FIELD("ka_timeout", tcp_cached_state, ka_timeout, TICKS),
    FIELD("ka_interval", tcp_cached_state, ka_interval, TICKS),
    FIELD("max_rt", tcp_cached_state, max_rt, TICKS),
    {0},
};
const struct field param_fields[] = {
    FIELD("ack_frequency", tcp_params, ack_frequency, U8),
    FIELD("delayed_ack", tcp_params, delayed_ack_ticks, TICKS),
    FIELD("max_retransmissions", tcp_params, max_retransmissions, U8),
    FIELD("sws_prevention", tcp_params, sws_prevention_ticks, TICKS),
    FIELD("dup_ack_threshold", tcp_params, dup_ack_threshold, U32),
    FIELD("fin_wait2", tcp_params, fin_wait2_ticks, TICKS),
    FIELD("rto_min", tcp_params, rto_min_ticks, TICKS),
    FIELD("rto_max", tcp_params, rto_max_ticks, TICKS),
    {0},
};
const struct field stat_fields[] = {
    FIELD("bytes_in", tcp_stats, bytes_in, U64),
    FIELD("bytes_out", tcp_stats, bytes_out, U64),
    FIELD("retransmits", tcp_stats, retransmits, U64),
    FIELD("fast_retransmits", tcp_stats, fast_retransmits, U64),
    FIELD("rto_fired", tcp_stats, rto_fired, U64),
    FIELD("dup_in", tcp_stats, dup_in, U64),
    FIELD("ooo_in", tcp_stats, ooo_in, U64),
    FIELD("ooo_dropped", tcp_stats, ooo_dropped, U64),
    FIELD("paws_dropped", tcp_stats, paws_dropped, U64),
    FIELD("dsack_in", tcp_stats, dsack_in, U64),
    {0},
};

const struct bit constant_flags[] = {{"ts", TCP_FLAG_TIMESTAMP_ENABLED},
                                     {"sack", TCP_FLAG_SACK_ENABLED},
                                     {"wscale", TCP_FLAG_WINDOW_SCALING_ENABLED},
                                     {"ecn", TCP_FLAG_ECN_ENABLED},
                                     {0}};
const struct bit cached_flags[] = {
    {"keepalive", TCP_FLAG_KEEP_ALIVE_ENABLED},         {"nagle", TCP_FLAG_NAGLING_ENABLED},
    {"keepalive_restart", TCP_FLAG_KEEP_ALIVE_RESTART}, {"max_rt_restart", TCP_FLAG_MAX_RT_RESTART},
    {"update_rcv_wnd", TCP_FLAG_UPDATE_RCV_WND},        {0}};
const struct bit event_names[] = {{"received", TCP_EV_RECEIVED},
                                  {"acked", TCP_EV_ACKED},
                                  {"fin", TCP_EV_FIN},
                                  {"reset", TCP_EV_RESET},
                                  {"syn", TCP_EV_SYN},
                                  {"urgent", TCP_EV_URGENT},
                                  {"timeout", TCP_EV_TIMEOUT},
                                  {"time-wait", TCP_EV_TIME_WAIT},
                                  {"fin-acked", TCP_EV_FIN_ACKED},
                                  {"dropped", TCP_EV_DROPPED},
                                  {0}};

uint32_t find_bit(const struct bit *list, const char *name)
{
    for (; list->name; list++)
        if (strcmp(list->name, name) == 0)
            return list->bit;
    return 0;
}

const struct field *find_field(const struct field *list, const char *name)
{
    for (; list->name; list++)
        if (strcmp(list->name, name) == 0)
            return list;
    return NULL;
}

static uint32_t parse_ticks(const struct line *line, const char *word)
{
    if (strcmp(word, "off") == 0)
        return TCP_TIMER_OFF;
    return (uint32_t)((parse_time(line, word) + 999) / 1000);
}

/* The value of "name=value" in a field's own unit. */
uint32_t parse_field(struct script *s, const struct field *field, const char *word)
{
    switch (field->kind) {
    case TICKS:
        return parse_ticks(&s->line, word);
    case TICKS4:
        return 4 * parse_ticks(&s->line, word);
    case TICKS8:
        return 8 * parse_ticks(&s->line, word);
    case STATE:
        return parse_state(&s->line, word);
    case SND_SEQ:
        return s->snd_zero + (uint32_t)parse_number(&s->line, word);
    case RCV_SEQ:
        return s->rcv_zero + (uint32_t)parse_number(&s->line, word);
    case OUR_STAMP:
        return s->ts_zero + (uint32_t)parse_number(&s->line, word);
    case PEER_STAMP:
        return s->peer_ts_zero + (uint32_t)parse_number(&s->line, word);
    default:
        return (uint32_t)parse_number(&s->line, word);
    }
}

void set_field(struct script *s, const struct field *field, void *base, const char *word)
{
    uint32_t value = parse_field(s, field, word);
    uint8_t *at = (uint8_t *)base + field->offset;

    if (field->kind == U8 || field->kind == STATE)
        *at = (uint8_t)value;
    else if (field->kind == U16)
        *(uint16_t *)at = (uint16_t)value;
    else
        *(uint32_t *)at = value;
}

uint64_t get_field(const struct field *field, const void *base)
{
    const uint8_t *at = (const uint8_t *)base + field->offset;

    if (field->kind == U8 || field->kind == STATE)
        return *at;
    if (field->kind == U64)
        return *(const uint64_t *)(const void *)at;
    return field->kind == U16 ? *(const uint16_t *)at : *(const uint32_t *)at;
}

/* What relative 0 of a field's kind stands for. */
static uint32_t zero_of(const struct script *s, enum kind kind)
{
    switch (kind) {
    case SND_SEQ:
        return s->snd_zero;
    case RCV_SEQ:
        return s->rcv_zero;
    case OUR_STAMP:
        return s->ts_zero;
    default:
        return s->peer_ts_zero;
    }
}

void format_field(const struct script *s, const struct field *field, uint64_t value, char *text,
                  size_t size)
{
    unsigned scale = field->kind == TICKS8 ? 8 : field->kind == TICKS4 ? 4 : 1;

    switch (field->kind) {
    case STATE:
        snprintf(text, size, "%s", state_name((uint8_t)value));
        return;
    case TICKS:
    case TICKS4:
    case TICKS8:
        if (field->kind == TICKS && value == TCP_TIMER_OFF)
            snprintf(text, size, "off");
        else
            snprintf(text, size, "%.10gms", (double)value / 1e3 / scale);
        return;
    case SND_SEQ:
    case RCV_SEQ:
    case OUR_STAMP:
    case PEER_STAMP:
        snprintf(text, size, "%d", (int32_t)((uint32_t)value - zero_of(s, field->kind)));
        return;
    default:
        snprintf(text, size, "%llu", (unsigned long long)value);
    }
}
