/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs and chimneyd say to each other, over one SOCK_SEQPACKET connection per session.
 *
 * Fixed-size messages, one per packet, requests answered in order except for the daemon's own
 * notices (op >= PROTOCOL_NOTICE).  Descriptors travel as SCM_RIGHTS beside the message that names
 * them.  The daemon treats every field as hostile.  Data never goes this way: see stream/.
 *
 *   HELLO    program -> daemon: version.  Answer: arena memfd and kick eventfd (2 descriptors).
 *   ATTACH   program -> daemon: a connected TCP socket (1 descriptor), flags.  Answer: slot,
 * conn_id, or error (errno) and a line.  The daemon keeps a duplicate until DETACH. DETACH program
 * -> daemon: slot.  The connection is brought back to the kernel if it is not there, the duplicate
 * is closed, then it is answered: the socket is plain again. UPLOAD   program -> daemon: slot,
 * reason.  As DETACH but the connection stays attached: "what offload cannot do, upload does".
 *   OFFLOAD  program -> daemon: slot.  Asks for an offload; refused with a status while paused.
 *   SET      program -> daemon: wait set number.  Answer: eventfd of that set (1 descriptor).
 *   GOODBYE  notice, daemon -> program: the daemon ends; every connection is in the kernel.
 */
#ifndef CHIMNEY_DAEMON_PROTOCOL_H
#define CHIMNEY_DAEMON_PROTOCOL_H

#include <stdint.h>

#define PROTOCOL_VERSION 1u
/** Default directory of the daemon's sockets; CHIMNEY_RUNDIR and --rundir override it. */
#define PROTOCOL_RUNDIR "/run/chimney"
#define PROTOCOL_SESSION_SOCKET "session.sock" /* programs, SOCK_SEQPACKET */
#define PROTOCOL_CONTROL_SOCKET "control.sock" /* the chimney command, SOCK_STREAM, JSON lines */

enum protocol_op {
    PROTOCOL_HELLO = 1,
    PROTOCOL_ATTACH = 2,
    PROTOCOL_DETACH = 3,
    PROTOCOL_UPLOAD = 4,
    PROTOCOL_OFFLOAD = 5,
    PROTOCOL_SET = 6,
    PROTOCOL_NOTICE = 100,
    PROTOCOL_GOODBYE = 101,
};

#define PROTOCOL_ATTACH_ACCEPTED 0x1u /* the program accepted it (else: connected it) */
#define PROTOCOL_ATTACH_OFFLOAD 0x2u  /* offload at once */

struct protocol_message {
    uint32_t op;
    uint32_t serial; /* the answer carries the request's */
    uint32_t slot;   /* also: set number of SET, version of HELLO */
    uint32_t flags;
    uint32_t conn_id;
    int32_t error;   /* answers: 0 or a positive errno */
    uint32_t status; /* answers: NDIS status where one applies */
    uint32_t reason; /* enum chimney_upload_reason of UPLOAD */
    char text[96];   /* answers: one line for people, NUL-terminated */
};
_Static_assert(sizeof(struct protocol_message) == 128, "wire format");

#endif
