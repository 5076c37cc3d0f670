/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters of the target, and ticks. */
#include "tcp/conn.h"

#define DEFAULT_TICKS_PER_SECOND 1000000u

static uint32_t ticks_per_second(const struct tcp_params *params)
{
    return params->ticks_per_second ? params->ticks_per_second : DEFAULT_TICKS_PER_SECOND;
}

uint32_t tcp_to_ticks(const struct tcp_params *params, tcp_time time)
{
    uint64_t per_second = ticks_per_second(params);
    uint64_t seconds = time / TCP_SEC, rest = time % TCP_SEC;

    if (seconds > TCP_TIMER_OFF) /* and the product below stays in 64 bits */
        return TCP_TIMER_OFF - 1;
    seconds = seconds * per_second + (rest * per_second + TCP_SEC - 1) / TCP_SEC;
    return seconds < TCP_TIMER_OFF ? (uint32_t)seconds : TCP_TIMER_OFF - 1;
}

tcp_time tcp_from_ticks(const struct tcp_params *params, uint32_t ticks)
{
    return ticks * TCP_SEC / ticks_per_second(params);
}

void tcp_params_default(struct tcp_params *params)
{
    *params = (struct tcp_params){
        .ticks_per_second = DEFAULT_TICKS_PER_SECOND,
        .ack_frequency = 2,
        .max_retransmissions = 15,
        .doubt_retransmissions = 3,
        .dup_ack_threshold = 3,
    };
    params->delayed_ack_ticks = tcp_to_ticks(params, 40 * TCP_MSEC);
    params->sws_prevention_ticks = tcp_to_ticks(params, 200 * TCP_MSEC);
    params->fin_wait2_ticks = tcp_to_ticks(params, 120 * TCP_SEC);
    params->rto_min_ticks = tcp_to_ticks(params, 200 * TCP_MSEC);
    params->rto_max_ticks = tcp_to_ticks(params, 120 * TCP_SEC);
}
