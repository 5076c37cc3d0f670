/* SPDX-License-Identifier: Apache-2.0 */
/* Layout, validation and walk of block trees, as truth tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "contract/tree.h"

#define MAX_BLOCKS 32

/* Blocks of one test, each in memory of exactly its size so that a sanitizer sees every overrun. */
static struct chimney_block *blocks[MAX_BLOCKS];
static struct chimney_cell cells[MAX_BLOCKS];
static int block_count;

static int forget(void **state)
{
    for (int i = 0; i < block_count; i++)
        free(blocks[i]);
    block_count = 0;
    memset(cells, 0, sizeof(cells));
    return 0;
}

/** A block whose role is @role; its cell is cells[] at its number. */
static struct chimney_block *block_of(enum chimney_state_type type, enum tree_role role)
{
    struct chimney_block *block = tree_block_init(malloc(tree_block_size(type)), type);
    struct chimney_cell *cell = &cells[block_count];

    assert_true(block_count < MAX_BLOCKS);
    blocks[block_count++] = block;
    if (role != TREE_PLACEHOLDER)
        block->cell = cell;
    if (role == TREE_LINKER)
        cell->context = cell;
    return block;
}

static struct chimney_block *under(struct chimney_block *parent, struct chimney_block *child)
{
    struct chimney_block **at = &parent->dependents;

    while (*at)
        at = &(*at)->next;
    *at = child;
    return child;
}

/** Row of a refusal ("C15: ..." gives 15), 0 if the tree is sound. */
static int refused(enum tree_verb verb, const struct chimney_block *root)
{
    const char *line = tree_validate(verb, root);
    int row = 0;

    if (line)
        assert_int_equal(sscanf(line, "C%d: ", &row), 1);
    return row;
}

/* rows: C13 C26 C27 C37 */
static void layout(void **state)
{
    static const struct {
        enum chimney_state_type type;
        size_t constant, cached, delegated;
    } table[] = {
        {NeighborOffloadState, sizeof(struct chimney_neighbor_const),
         sizeof(struct chimney_neighbor_cached), sizeof(struct chimney_neighbor_delegated)},
        {NeighborOffloadConstState, sizeof(struct chimney_neighbor_const), 0, 0},
        {NeighborOffloadCachedState, 0, sizeof(struct chimney_neighbor_cached), 0},
        {NeighborOffloadDelegatedState, 0, 0, sizeof(struct chimney_neighbor_delegated)},
        {Ip4OffloadState, sizeof(struct chimney_path_const), sizeof(struct chimney_path_cached),
         sizeof(struct chimney_path_delegated)},
        {Ip4OffloadConstState, sizeof(struct chimney_path_const), 0, 0},
        {Ip4OffloadCachedState, 0, sizeof(struct chimney_path_cached), 0},
        {Ip4OffloadDelegatedState, 0, 0, sizeof(struct chimney_state_header)},
        {Ip6OffloadState, sizeof(struct chimney_path_const), sizeof(struct chimney_path_cached),
         sizeof(struct chimney_path_delegated)},
        {Ip6OffloadConstState, sizeof(struct chimney_path_const), 0, 0},
        {Ip6OffloadCachedState, 0, sizeof(struct chimney_path_cached), 0},
        {Ip6OffloadDelegatedState, 0, 0, sizeof(struct chimney_state_header)},
        {TcpOffloadState, sizeof(struct chimney_tcp_const), sizeof(struct chimney_tcp_cached),
         sizeof(struct chimney_tcp_delegated)},
        {TcpOffloadConstState, sizeof(struct chimney_tcp_const), 0, 0},
        {TcpOffloadCachedState, 0, sizeof(struct chimney_tcp_cached), 0},
        {TcpOffloadDelegatedState, 0, 0, sizeof(struct chimney_tcp_delegated)},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct chimney_block *block = block_of(table[i].type, TREE_PLACEHOLDER);
        const size_t parts[] = {table[i].constant, table[i].cached, table[i].delegated};
        void *const found[] = {
            (uint8_t *)tree_neighbor_const(block) ?: (uint8_t *)tree_path_const(block)
                                                         ?: (uint8_t *)tree_tcp_const(block),
            (uint8_t *)tree_neighbor_cached(block) ?: (uint8_t *)tree_path_cached(block)
                                                          ?: (uint8_t *)tree_tcp_cached(block),
            (uint8_t *)tree_neighbor_delegated(block)
                ?: (uint8_t *)tree_path_delegated(block) ?: (uint8_t *)tree_tcp_delegated(block),
        };
        uint8_t *at = (uint8_t *)(block + 1);

        assert_int_equal(block->header.type, table[i].type);
        assert_int_equal(block->header.size, sizeof(struct chimney_block));
        assert_int_equal(block->status, TREE_STATUS_POISON);
        assert_null(block->next);
        assert_null(block->dependents);
        assert_int_equal(block->port_number, 0);
        /* Found by the lengths alone, as another implementation would find them. */
        for (int part = 0; part < 3; part++) {
            struct chimney_state_header header;

            if (!parts[part]) {
                assert_null(found[part]);
                continue;
            }
            assert_ptr_equal(found[part], at);
            assert_int_equal((uintptr_t)at % _Alignof(uint32_t), 0);
            memcpy(&header, at, sizeof(header));
            assert_int_equal(header.length, parts[part]);
            assert_int_equal(header.recognized_options, 0);
            at += header.length;
        }
        assert_true((size_t)(at - (uint8_t *)block) <= tree_block_size(table[i].type));
        assert_true((size_t)(at - (uint8_t *)block) + 8 > tree_block_size(table[i].type));
    }
}

/* rows: C27 */
static void combined_state_is_parsed_by_length(void **state)
{
    struct chimney_block *block = block_of(TcpOffloadState, TREE_NEW);
    struct chimney_tcp_state_all *all = (struct chimney_tcp_state_all *)(block + 1);
    uint8_t *at = (uint8_t *)(block + 1);

    tree_tcp_const(block)->hash_value = 0x11111111;
    tree_tcp_cached(block)->flow_label = 0x22222;
    tree_tcp_delegated(block)->rcv_nxt = 0x33333333;
    assert_int_equal(((struct chimney_tcp_const *)at)->hash_value, 0x11111111);
    at += ((struct chimney_state_header *)at)->length;
    assert_int_equal(((struct chimney_tcp_cached *)at)->flow_label, 0x22222);
    at += ((struct chimney_state_header *)at)->length;
    assert_int_equal(((struct chimney_tcp_delegated *)at)->rcv_nxt, 0x33333333);
    assert_int_equal(all->constant.hash_value, 0x11111111);
    assert_int_equal(all->cached.flow_label, 0x22222);
    assert_int_equal(all->delegated.rcv_nxt, 0x33333333);
}

/* rows: C14 */
static void types_without_structure(void **state)
{
    static const int none[] = {0, 16, 18, 0x80, 0xFE, 0xFF};
    struct chimney_block *block = block_of(NeighborOffloadState, TREE_NEW);

    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        assert_int_equal(tree_block_size(none[i]), 0);
        block->header.type = (uint8_t)none[i];
        assert_int_equal(tree_block_layer(block), TREE_INVALID);
        for (enum tree_verb verb = TREE_INITIATE; verb <= TREE_TERMINATE; verb++)
            assert_int_equal(refused(verb, block), 14);
    }
}

/* rows: C18 */
static void roles(void **state)
{
    struct chimney_block block = {0};
    struct chimney_cell cell = {0};

    assert_int_equal(tree_block_role(&block), TREE_PLACEHOLDER);
    block.cell = &cell;
    assert_int_equal(tree_block_role(&block), TREE_NEW);
    cell.context = &cell;
    assert_int_equal(tree_block_role(&block), TREE_LINKER);
}

/** A sound initiate: neighbor, path, two connections. */
static struct chimney_block *sound_initiate(void)
{
    struct chimney_block *root = block_of(NeighborOffloadState, TREE_NEW);
    struct chimney_block *path = under(root, block_of(Ip4OffloadState, TREE_NEW));

    under(path, block_of(TcpOffloadState, TREE_NEW));
    under(path, block_of(TcpOffloadState, TREE_NEW));
    return root;
}

/* rows: C14 C15 C16 C26 C102 C103 C112 */
static void initiate_refusals(void **state)
{
    struct chimney_block *root = sound_initiate(), *path = root->dependents;
    struct chimney_block *tcp = path->dependents, *extra;

    assert_int_equal(refused(TREE_INITIATE, root), 0);
    assert_int_equal(refused(TREE_INITIATE, NULL), 28);
    /* An initiate begins at the neighbors. */
    assert_int_equal(refused(TREE_INITIATE, path), 15);

    tcp->header.revision++;
    assert_int_equal(refused(TREE_INITIATE, root), 112);
    tcp->header.revision--;
    tcp->header.size -= 8;
    assert_int_equal(refused(TREE_INITIATE, root), 112);
    tcp->header.size += 8;

    /* Header.Type does not match what follows: half the state, another layer's. */
    tcp->header.type = TcpOffloadCachedState;
    assert_int_equal(refused(TREE_INITIATE, root), 14);
    tcp->header.type = Ip6OffloadState;
    assert_int_equal(refused(TREE_INITIATE, root), 15);
    tcp->header.type = TcpOffloadState;

    /* Another layer as neighbor in the list, or as dependent. */
    extra = block_of(Ip4OffloadState, TREE_NEW);
    root->next = extra;
    assert_int_equal(refused(TREE_INITIATE, root), 15);
    root->next = NULL;
    tcp->next->next = extra;
    assert_int_equal(refused(TREE_INITIATE, root), 15);
    tcp->next->next = NULL;
    tcp->dependents = extra;
    assert_int_equal(refused(TREE_INITIATE, root), 16);
    tcp->dependents = NULL;
    path->dependents = extra;
    assert_int_equal(refused(TREE_INITIATE, root), 15);
    path->dependents = tcp;

    /* Every part of every state with a length too short and too long. */
    for (struct chimney_block *block = root; block; block = block->dependents) {
        uint8_t *at = (uint8_t *)(block + 1);

        for (int part = 0; part < 3; part++) {
            struct chimney_state_header *header = (struct chimney_state_header *)at;
            uint32_t length = header->length;

            header->length = length - 4;
            assert_int_equal(refused(TREE_INITIATE, root), 26);
            header->length = length + 4;
            assert_int_equal(refused(TREE_INITIATE, root), 26);
            header->length = 0;
            assert_int_equal(refused(TREE_INITIATE, root), 26);
            header->length = length;
            at += length;
        }
    }
    assert_int_equal(refused(TREE_INITIATE, root), 0);

    /* A placeholder may be of any type, and has no dependents. */
    extra = block_of(TcpOffloadCachedState, TREE_PLACEHOLDER);
    root->next = extra;
    assert_int_equal(refused(TREE_INITIATE, root), 0);
    extra->header.type = 0;
    assert_int_equal(refused(TREE_INITIATE, root), 0);
    extra->dependents = path;
    root->dependents = NULL;
    assert_int_equal(refused(TREE_INITIATE, root), 102);
    extra->dependents = NULL;
    root->dependents = path;

    /* A linker always has dependents; what stands behind it is not looked at. */
    root->cell->context = root;
    tree_neighbor_const(root)->header.length = 1;
    assert_int_equal(refused(TREE_INITIATE, root), 0);
    root->dependents = NULL;
    assert_int_equal(refused(TREE_INITIATE, root), 103);
}

static void endless_trees(void **state)
{
    struct chimney_block *root = block_of(NeighborOffloadState, TREE_NEW);

    root->next = root;
    assert_int_equal(refused(TREE_INITIATE, root), 28);
    assert_int_equal(refused(TREE_INVALIDATE, root), 18);
    root->cell->context = root;
    assert_int_equal(refused(TREE_INVALIDATE, root), 28);
    tree_set_status(root, NDIS_STATUS_FAILURE); /* ends */
    root->next = NULL;
    root->dependents = root;
    assert_int_equal(refused(TREE_TERMINATE, root), 227);
    tree_set_status(root, NDIS_STATUS_FAILURE);
}

/* rows: C204 C227 */
static void what_may_follow_by_verb(void **state)
{
    /* Row that refuses a referencing block of the type; 0: accepted.  Parts: const, cached,
     * delegated, all. */
    static const struct {
        enum tree_verb verb;
        int row[4];
        bool looks_behind[4];
    } table[] = {
        {TREE_QUERY, {0, 0, 0, 0}, {true, true, true, true}},
        {TREE_UPDATE, {0, 0, 0, 0}, {false, true, false, true}},
        {TREE_INVALIDATE, {0, 0, 0, 0}, {false, false, false, false}},
        {TREE_TERMINATE, {227, 227, 0, 227}, {true, true, true, true}},
    };
    static const enum chimney_state_type types[4][4] = {
        {NeighborOffloadConstState, NeighborOffloadCachedState, NeighborOffloadDelegatedState,
         NeighborOffloadState},
        {Ip4OffloadConstState, Ip4OffloadCachedState, Ip4OffloadDelegatedState, Ip4OffloadState},
        {Ip6OffloadConstState, Ip6OffloadCachedState, Ip6OffloadDelegatedState, Ip6OffloadState},
        {TcpOffloadConstState, TcpOffloadCachedState, TcpOffloadDelegatedState, TcpOffloadState},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (int layer = 0; layer < 4; layer++) {
            for (int part = 0; part < 4; part++) {
                struct chimney_block *block = block_of(types[layer][part], TREE_LINKER);
                struct chimney_state_header *header = (struct chimney_state_header *)(block + 1);

                assert_int_equal(refused(table[i].verb, block), table[i].row[part]);
                header->length++;
                if (table[i].row[part] == 0)
                    assert_int_equal(refused(table[i].verb, block),
                                     table[i].looks_behind[part] ? 26 : 0);
                forget(NULL);
            }
        }
    }
}

/* rows: C18 */
static void references(void **state)
{
    struct chimney_block *root = block_of(NeighborOffloadConstState, TREE_LINKER);
    struct chimney_block *path = under(root, block_of(Ip4OffloadConstState, TREE_LINKER));
    struct chimney_block *tcp = block_of(TcpOffloadCachedState, TREE_LINKER);

    /* A relink of paths; a placeholder that only holds a place. */
    assert_int_equal(refused(TREE_UPDATE, root), 0);
    under(path, tcp);
    path->cell = NULL;
    assert_int_equal(refused(TREE_UPDATE, root), 0);
    /* Any layer may be the root of the four verbs; what they name must be offloaded. */
    for (enum tree_verb verb = TREE_QUERY; verb <= TREE_INVALIDATE; verb++) {
        assert_int_equal(refused(verb, tcp), 0);
        tcp->cell->context = NULL;
        assert_int_equal(refused(verb, tcp), 18);
        tcp->cell->context = tcp;
    }
}

struct visit_log {
    int order[MAX_BLOCKS], parent[MAX_BLOCKS];
    int count, stop_after;
};

static int number_of(const struct chimney_block *block)
{
    for (int i = 0; i < block_count; i++) {
        if (blocks[i] == block)
            return i;
    }
    return -1;
}

static bool log_visit(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    struct visit_log *log = arg;

    log->order[log->count] = number_of(block);
    log->parent[log->count++] = number_of(parent);
    return log->count != log->stop_after;
}

/**
 * The tree of the tests below; the numbers are those of blocks[], in the order of the walk:
 * 0 neighbor; 1 path with 2, 3 connections; 4 path with 5, 6; 7 neighbor; 8 path with 9.
 */
static struct chimney_block *wide_tree(void)
{
    struct chimney_block *first = block_of(NeighborOffloadState, TREE_NEW), *path;

    path = under(first, block_of(Ip4OffloadState, TREE_NEW));
    under(path, block_of(TcpOffloadState, TREE_NEW));
    under(path, block_of(TcpOffloadState, TREE_NEW));
    path = under(first, block_of(Ip6OffloadState, TREE_NEW));
    under(path, block_of(TcpOffloadState, TREE_NEW));
    under(path, block_of(TcpOffloadState, TREE_NEW));
    first->next = block_of(NeighborOffloadState, TREE_NEW);
    path = under(first->next, block_of(Ip4OffloadState, TREE_NEW));
    under(path, block_of(TcpOffloadState, TREE_NEW));
    return first;
}
#define WIDE_BLOCKS 10

/* rows: C106 */
static void depth_first(void **state)
{
    static const int parents[WIDE_BLOCKS] = {-1, 0, 1, 1, 0, 4, 4, -1, 7, 8};
    struct chimney_block *root = wide_tree();
    struct visit_log log = {0};

    assert_int_equal(refused(TREE_INITIATE, root), 0);
    tree_walk(root, log_visit, &log);
    assert_int_equal(log.count, WIDE_BLOCKS);
    for (int i = 0; i < WIDE_BLOCKS; i++) {
        assert_int_equal(log.order[i], i);
        assert_int_equal(log.parent[i], parents[i]);
    }
    log = (struct visit_log){.stop_after = 6};
    tree_walk(root, log_visit, &log);
    assert_int_equal(log.count, 6);
    tree_set_status(root, NDIS_STATUS_RESOURCES);
    for (int i = 0; i < WIDE_BLOCKS; i++)
        assert_int_equal(blocks[i]->status, NDIS_STATUS_RESOURCES);
}

/* A taker that answers from a table and logs what it was asked. */
struct script {
    chimney_status answer[MAX_BLOCKS];
    int taken[MAX_BLOCKS], count;
    void *parent[MAX_BLOCKS];
};
static char contexts[MAX_BLOCKS];

static chimney_status scripted(void *arg, struct chimney_block *block, void *parent, void **context)
{
    struct script *script = arg;
    int number = number_of(block);

    script->taken[script->count++] = number;
    script->parent[number] = parent;
    /* A target may leave anything behind here when it fails. */
    *context = &contexts[number];
    return script->answer[number];
}

static chimney_status scripted_neighbor(void *arg, struct chimney_block *block, void **context)
{
    return scripted(arg, block, NULL, context);
}

static const struct tree_taker scripted_taker = {scripted_neighbor, scripted, scripted};

#define OK NDIS_STATUS_SUCCESS
#define PART NDIS_STATUS_OFFLOAD_PARTIAL_SUCCESS
#define FAIL NDIS_STATUS_FAILURE
#define ROOM NDIS_STATUS_OFFLOAD_TCP_ENTRIES
#define PATHS NDIS_STATUS_OFFLOAD_PATH_ENTRIES
#define NEIGHBORS NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES

/* rows: C104 C105 C106 C156 C157 C158 C159 */
static void initiate_statuses(void **state)
{
    static const struct {
        const char *what;
        int fails;
        chimney_status with;
        chimney_status status[WIDE_BLOCKS];
        bool taken[WIDE_BLOCKS];
    } table[] = {
        {"nothing fails",
         -1,
         OK,
         {OK, OK, OK, OK, OK, OK, OK, OK, OK, OK},
         {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
        {"a connection finds no room",
         2,
         ROOM,
         {PART, PART, ROOM, OK, OK, OK, OK, OK, OK, OK},
         {1, 1, 0, 1, 1, 1, 1, 1, 1, 1}},
        {"a later connection finds no room",
         6,
         ROOM,
         {PART, OK, OK, OK, PART, OK, ROOM, OK, OK, OK},
         {1, 1, 1, 1, 1, 1, 0, 1, 1, 1}},
        {"a connection is corrupt",
         3,
         FAIL,
         {PART, PART, OK, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL},
         {1, 1, 1, 0, 0, 0, 0, 0, 0, 0}},
        {"an unknown code is a corrupt connection",
         5,
         0xC1234567,
         {PART, OK, OK, OK, PART, 0xC1234567, FAIL, FAIL, FAIL, FAIL},
         {1, 1, 1, 1, 1, 0, 0, 0, 0, 0}},
        {"a path finds no room",
         1,
         PATHS,
         {PART, PATHS, FAIL, FAIL, OK, OK, OK, OK, OK, OK},
         {1, 0, 0, 0, 1, 1, 1, 1, 1, 1}},
        {"the root finds no room",
         0,
         NEIGHBORS,
         {NEIGHBORS, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL, FAIL},
         {0}},
        {"another neighbor finds no room",
         7,
         NEIGHBORS,
         {OK, OK, OK, OK, OK, OK, OK, NEIGHBORS, FAIL, FAIL},
         {1, 1, 1, 1, 1, 1, 1, 0, 0, 0}},
        {"the last connection is corrupt",
         9,
         FAIL,
         {OK, OK, OK, OK, OK, OK, OK, PART, PART, FAIL},
         {1, 1, 1, 1, 1, 1, 1, 1, 1, 0}},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct chimney_block *root = wide_tree();
        struct script script = {0};

        if (table[i].fails >= 0)
            script.answer[table[i].fails] = table[i].with;
        print_message("%s\n", table[i].what);
        tree_initiate(root, &scripted_taker, &script);
        for (int n = 0; n < WIDE_BLOCKS; n++) {
            assert_int_equal(blocks[n]->status, table[i].status[n]);
            assert_ptr_equal(cells[n].context, table[i].taken[n] ? &contexts[n] : NULL);
        }
        /* Asked in the order of the walk, and nobody after the walk had stopped. */
        for (int n = 1; n < script.count; n++)
            assert_true(script.taken[n - 1] < script.taken[n]);
        for (int n = 0; n < script.count; n++)
            assert_true(table[i].taken[script.taken[n]] || script.taken[n] == table[i].fails);
        forget(NULL);
    }
}

/* rows: C106 */
static void room_for_k_objects(void **state)
{
    /* Whatever the order of the host, the first k connections in depth-first order get the room. */
    for (int room = 0; room <= 5; room++) {
        static const int connections[] = {2, 3, 5, 6, 9};
        struct chimney_block *root = wide_tree();
        struct script script = {0};

        for (int c = room; c < 5; c++)
            script.answer[connections[c]] = ROOM;
        tree_initiate(root, &scripted_taker, &script);
        for (int c = 0; c < 5; c++)
            assert_int_equal(cells[connections[c]].context != NULL, c < room);
        forget(NULL);
    }
}

/* rows: C107 */
static void parents_are_handed_over(void **state)
{
    static const int parents[WIDE_BLOCKS] = {-1, 0, 1, 1, 0, 4, 4, -1, 7, 8};
    struct chimney_block *root = wide_tree();
    struct script script = {0};

    /* The second neighbor and its path exist already. */
    cells[7].context = &contexts[17];
    cells[8].context = &contexts[18];
    tree_initiate(root, &scripted_taker, &script);
    for (int n = 1; n < 7; n++)
        assert_ptr_equal(script.parent[n], parents[n] < 0 ? NULL : &contexts[parents[n]]);
    assert_ptr_equal(script.parent[9], &contexts[18]);
    assert_int_equal(script.count, WIDE_BLOCKS - 2);
    assert_ptr_equal(cells[7].context, &contexts[17]);
}

/* rows: C102 C103 */
static void linkers_and_placeholders(void **state)
{
    /* Root linker, path linker, three dependents: taken with these answers. */
    static const struct {
        chimney_status answer[3];
        bool placeholder[3];
        chimney_status linker;
    } table[] = {
        {{OK, OK, OK}, {0}, OK},           {{ROOM, OK, OK}, {0}, PART},
        {{OK, ROOM, ROOM}, {0}, PART},     {{ROOM, ROOM, ROOM}, {0}, FAIL},
        {{FAIL, OK, OK}, {0}, FAIL},       {{OK, OK, FAIL}, {0}, PART},
        {{OK, OK, OK}, {1, 0, 1}, OK},     {{OK, ROOM, OK}, {1, 0, 1}, FAIL},
        {{OK, ROOM, OK}, {1, 0, 0}, PART}, {{OK, OK, OK}, {1, 1, 1}, OK},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct chimney_block *root = block_of(NeighborOffloadState, TREE_LINKER);
        struct chimney_block *path = under(root, block_of(Ip4OffloadState, TREE_LINKER));
        struct chimney_block *tcp[3];
        struct script script = {0};

        for (int n = 0; n < 3; n++) {
            script.answer[block_count] = table[i].answer[n];
            tcp[n] = under(path, block_of(TcpOffloadState,
                                          table[i].placeholder[n] ? TREE_PLACEHOLDER : TREE_NEW));
        }
        root->next = block_of(NeighborOffloadState, TREE_PLACEHOLDER);
        assert_int_equal(refused(TREE_INITIATE, root), 0);
        tree_initiate(root, &scripted_taker, &script);
        assert_int_equal(path->status, table[i].linker);
        assert_int_equal(root->status, table[i].linker);
        assert_int_equal(root->next->status, OK);
        for (int n = 0; n < 3; n++) {
            if (table[i].placeholder[n])
                assert_int_equal(tcp[n]->status, OK);
        }
        assert_ptr_equal(path->cell->context, path->cell);
        forget(NULL);
    }
}

/* rows: C156 C157 */
static void which_failures_stop(void **state)
{
    static const struct {
        chimney_status status;
        bool goes_on;
    } table[] = {
        {NDIS_STATUS_RESOURCES, true},
        {NDIS_STATUS_OFFLOAD_TCP_ENTRIES, true},
        {NDIS_STATUS_OFFLOAD_PATH_ENTRIES, true},
        {NDIS_STATUS_OFFLOAD_NEIGHBOR_ENTRIES, true},
        {NDIS_STATUS_OFFLOAD_IP_ADDRESS_ENTRIES, true},
        {NDIS_STATUS_OFFLOAD_HW_ADDRESS_ENTRIES, true},
        {NDIS_STATUS_OFFLOAD_VLAN_ENTRIES, true},
        {NDIS_STATUS_OFFLOAD_TCP_XMIT_BUFFER, true},
        {NDIS_STATUS_OFFLOAD_TCP_RCV_BUFFER, true},
        {NDIS_STATUS_OFFLOAD_TCP_RCV_WINDOW, true},
        {NDIS_STATUS_OFFLOAD_VLAN_MISMATCH, true},
        {NDIS_STATUS_OFFLOAD_PATH_MTU, true},
        {NDIS_STATUS_OFFLOAD_CONNECTION_REJECTED, true},
        {NDIS_STATUS_FAILURE, false},
        {NDIS_STATUS_INVALID_STATE, false},
        {NDIS_STATUS_NOT_SUPPORTED, false},
        {NDIS_STATUS_REQUEST_ABORTED, false},
        {0xC1234567, false},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct chimney_block *root = wide_tree();
        struct script script = {0};

        assert_int_equal(tree_status_is_resource(table[i].status), table[i].goes_on);
        script.answer[2] = table[i].status;
        tree_initiate(root, &scripted_taker, &script);
        assert_int_equal(blocks[2]->status, table[i].status);
        assert_null(cells[2].context);
        assert_int_equal(cells[3].context != NULL, table[i].goes_on);
        assert_int_equal(cells[9].context != NULL, table[i].goes_on);
        forget(NULL);
    }
}

/* rows: C58 */
static void states_that_may_be_offloaded(void **state)
{
    static const bool legal[] = {0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0};

    for (uint32_t s = 0; s <= 10; s++)
        assert_int_equal(tree_tcp_state_legal(s), legal[s]);
    assert_false(tree_tcp_state_legal(11));
    assert_false(tree_tcp_state_legal(UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(layout, forget),
        cmocka_unit_test_teardown(combined_state_is_parsed_by_length, forget),
        cmocka_unit_test_teardown(types_without_structure, forget),
        cmocka_unit_test_teardown(roles, forget),
        cmocka_unit_test_teardown(initiate_refusals, forget),
        cmocka_unit_test_teardown(endless_trees, forget),
        cmocka_unit_test_teardown(what_may_follow_by_verb, forget),
        cmocka_unit_test_teardown(references, forget),
        cmocka_unit_test_teardown(depth_first, forget),
        cmocka_unit_test_teardown(initiate_statuses, forget),
        cmocka_unit_test_teardown(room_for_k_objects, forget),
        cmocka_unit_test_teardown(parents_are_handed_over, forget),
        cmocka_unit_test_teardown(linkers_and_placeholders, forget),
        cmocka_unit_test_teardown(which_failures_stop, forget),
        cmocka_unit_test(states_that_may_be_offloaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
