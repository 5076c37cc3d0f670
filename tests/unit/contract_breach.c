/* SPDX-License-Identifier: Apache-2.0 */
#include "contract_breach.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

void world_init(struct world *w)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

    memset(w, 0, sizeof(*w));
    fake_init(&w->f);
    w->v = verifier_create(&w->f.base, findings_report, &w->found);
    assert_non_null(w->v);
    host_init(&w->h, w->v);
    w->f.inside_arg = w;
    w->h.inside_arg = w;
    host_neighbor_init(&w->n, mac);
    host_neighbor_init(&w->n2, mac);
    host_path_init(&w->p, &w->n, 4, 1, 2);
    host_path_init(&w->p2, &w->n, 6, 1, 2);
    host_conn_init(&w->c, &w->p, 80, 5000, RING);
    host_conn_init(&w->c2, &w->p, 80, 5001, RING);
    w->segment = (struct chimney_segment){
        .frame = w->frame, .frame_length = sizeof(w->frame), .tcp_offset = 34};
    host_read_capabilities(&w->h);
}

void world_free(struct world *w)
{
    host_free(&w->h);
    host_conn_free(&w->c);
    host_conn_free(&w->c2);
}

void offload(struct world *w)
{
    struct host_conn *c = &w->c;

    host_offload(&w->h, &c, 1);
    fake_do_all(&w->f);
    assert_int_equal(c->object.state, CHIMNEY_OFFLOADED);
}

void offload_two(struct world *w)
{
    struct host_conn *both[] = {&w->c, &w->c2};

    host_offload(&w->h, both, 2);
    fake_do_all(&w->f);
}

struct host_tree *terminate(struct world *w)
{
    struct host_object *c = &w->c.object;

    return host_terminate(&w->h, &c, 1);
}

void *handle(const struct world *w)
{
    return w->c.object.cell.context;
}

void retrieve(struct world *w, enum chimney_upload_reason reason)
{
    w->f.up->event(w->f.host, handle(w), TcpIndicateRetrieve, reason);
}

void indicate_status(struct world *w, chimney_status status)
{
    if (status == NDIS_STATUS_OFFLOAD_RESUME)
        w->f.up->status(w->f.host, status, &w->f.capabilities, sizeof(w->f.capabilities));
    else
        w->f.up->status(w->f.host, status, NULL, 0);
}

struct host_tree *initiate(struct world *w)
{
    struct host_conn *c = &w->c;

    return host_offload(&w->h, &c, 1);
}

struct chimney_span span(uint64_t begin, uint64_t end)
{
    return (struct chimney_span){begin, end};
}

struct host_tree *new_tree(struct world *w)
{
    struct host_tree *t = host_tree(&w->h, TREE_INITIATE);

    host_add_object(t, -1, &w->n.object);
    host_add_object(t, 0, &w->p.object);
    host_add_object(t, 1, &w->c.object);
    return t;
}

void send_done(struct world *w, uint64_t acked, chimney_status status)
{
    w->f.up->send_complete(w->f.host, handle(w), acked, status);
}

void ask_about(struct world *w, enum chimney_state_type type, void *about)
{
    struct chimney_block *block = tree_block_init(malloc(tree_block_size(type)), type);

    block->host_handle = about;
    w->f.up->neighbor_query(w->f.host, block);
    free(block);
}

void inside_initiate(struct host *h, const struct log_entry *entry)
{
    struct world *w = h->inside_arg;

    h->inside = NULL;
    initiate(w); /* in flight: the status function has not returned */
}

void every_breach_is_named(const char *who, const struct breach_case *cases, size_t count)
{
    static struct world w;
    int failed = 0;

    for (size_t i = 0; i < count; i++) {
        const struct breach_case *c = &cases[i];

        world_init(&w);
        c->commit(&w);
        if (w.found.count != 1 + c->more || w.found.row[0] != c->row ||
            strcmp(w.found.who[0], who) != 0) {
            print_message("%s: expected C%d by the %s, found %d\n", c->name, c->row, who,
                          w.found.count);
            for (int n = 0; n < w.found.count && n < MAX_FINDINGS; n++)
                print_message("    C%d %s: %s\n", w.found.row[n], w.found.who[n], w.found.line[n]);
            failed++;
        }
        /* Whatever was left open is freed; what that reports is another matter. */
        verifier_destroy(w.v);
        world_free(&w);
    }
    print_message("%zu breaches\n", count);
    assert_int_equal(failed, 0);
}
