/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault injection of the host room.  Every system call of an offload and of an upload asks here
 * first, by the name of its step, so that a test can make each one fail once and look whether the
 * connection is still alive.  Always compiled in: what is tested is what runs.
 */
#ifndef CHIMNEY_HOST_FAULT_H
#define CHIMNEY_HOST_FAULT_H

/**
 * Called with the name of the step that is about to happen ("freeze", "dump.peek_send", ...).
 * Returns 0 to go on, or -errno: then the step is not done and fails with that error.  NULL (the
 * normal case): nothing fails.  Set it only while no hand-off runs.
 */
extern int (*handoff_fault)(const char *step);

static inline int host_fault(const char *step)
{
    return __builtin_expect(handoff_fault != 0, 0) ? handoff_fault(step) : 0;
}

#endif
