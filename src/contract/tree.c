/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of offload blocks: how they lie in memory, whether one is sound, how one is walked.
 *
 * A tree has three layers and any width.  A block's type says its layer; the state structures that
 * the type names follow the block immediately, each as long as its own header says (C27).  What an
 * initiate does with a tree is in initiate.c.
 */
#include <string.h>

#include "contract/tree.h"

/* The combined structures are walked by their lengths: no gap may open between the parts. */
#define NO_GAPS(combined, a, b, c)                                                                 \
    _Static_assert(offsetof(struct combined, cached) == sizeof(struct a), #combined);              \
    _Static_assert(offsetof(struct combined, delegated) == sizeof(struct a) + sizeof(struct b),    \
                   #combined);                                                                     \
    _Static_assert(sizeof(struct combined) - offsetof(struct combined, delegated) <                \
                       sizeof(struct c) + 8,                                                       \
                   #combined)
NO_GAPS(chimney_neighbor_state, chimney_neighbor_const, chimney_neighbor_cached,
        chimney_neighbor_delegated);
NO_GAPS(chimney_path_state, chimney_path_const, chimney_path_cached, chimney_path_delegated);
NO_GAPS(chimney_tcp_state_all, chimney_tcp_const, chimney_tcp_cached, chimney_tcp_delegated);
_Static_assert(sizeof(struct chimney_block) % 8 == 0, "the state after a block is 8-byte aligned");

/* Which parts follow a block of a type. */
#define PART_CONST 0x1u
#define PART_CACHED 0x2u
#define PART_DELEGATED 0x4u
#define PART_ALL (PART_CONST | PART_CACHED | PART_DELEGATED)

struct type_info {
    enum tree_layer layer;
    unsigned int parts;
};

static struct type_info type_info(unsigned int type)
{
    static const unsigned int parts[] = {PART_CONST, PART_CACHED, PART_DELEGATED, PART_ALL};

    if (type >= NeighborOffloadConstState && type <= NeighborOffloadState)
        return (struct type_info){TREE_NEIGHBOR, parts[type - NeighborOffloadConstState]};
    if (type >= Ip4OffloadConstState && type <= Ip4OffloadState)
        return (struct type_info){TREE_PATH, parts[type - Ip4OffloadConstState]};
    if (type >= Ip6OffloadConstState && type <= Ip6OffloadState)
        return (struct type_info){TREE_PATH, parts[type - Ip6OffloadConstState]};
    if (type >= TcpOffloadConstState && type <= TcpOffloadDelegatedState)
        return (struct type_info){TREE_TCP, parts[type - TcpOffloadConstState]};
    if (type == TcpOffloadState)
        return (struct type_info){TREE_TCP, PART_ALL};
    return (struct type_info){TREE_INVALID, 0}; /* reserved, another driver's, or no type at all */
}

static const struct {
    size_t constant, cached, delegated;
} part_sizes[] = {
    [TREE_NEIGHBOR] = {sizeof(struct chimney_neighbor_const),
                       sizeof(struct chimney_neighbor_cached),
                       sizeof(struct chimney_neighbor_delegated)},
    [TREE_PATH] = {sizeof(struct chimney_path_const), sizeof(struct chimney_path_cached),
                   sizeof(struct chimney_path_delegated)},
    [TREE_TCP] = {sizeof(struct chimney_tcp_const), sizeof(struct chimney_tcp_cached),
                  sizeof(struct chimney_tcp_delegated)},
};

static size_t part_size(enum tree_layer layer, unsigned int part)
{
    switch (part) {
    case PART_CONST:
        return part_sizes[layer].constant;
    case PART_CACHED:
        return part_sizes[layer].cached;
    default:
        return part_sizes[layer].delegated;
    }
}

enum tree_layer tree_block_layer(const struct chimney_block *block)
{
    return type_info(block->header.type).layer;
}

enum tree_role tree_block_role(const struct chimney_block *block)
{
    if (!block->cell)
        return TREE_PLACEHOLDER;
    return block->cell->context ? TREE_LINKER : TREE_NEW;
}

size_t tree_block_size(enum chimney_state_type type)
{
    struct type_info info = type_info(type);
    size_t size = sizeof(struct chimney_block);

    if (info.layer == TREE_INVALID)
        return 0;
    for (unsigned int part = PART_CONST; part <= PART_DELEGATED; part <<= 1) {
        if (info.parts & part)
            size += part_size(info.layer, part);
    }
    return (size + 7) & ~(size_t)7; /* so that blocks may be laid out one after the other */
}

struct chimney_block *tree_block_init(void *memory, enum chimney_state_type type)
{
    struct type_info info = type_info(type);
    struct chimney_block *block = memory;
    uint8_t *state = (uint8_t *)(block + 1);

    memset(memory, 0, tree_block_size(type));
    block->header.type = (uint8_t)type;
    block->header.revision = CHIMNEY_REVISION;
    block->header.size = sizeof(*block);
    block->status = TREE_STATUS_POISON;
    for (unsigned int part = PART_CONST; part <= PART_DELEGATED; part <<= 1) {
        struct chimney_state_header *header = (struct chimney_state_header *)state;

        if (!(info.parts & part))
            continue;
        header->length = (uint32_t)part_size(info.layer, part);
        state += header->length;
    }
    return block;
}

/** The one part of the state behind @block, or NULL. */
static void *state_part(struct chimney_block *block, enum tree_layer layer, unsigned int part)
{
    struct type_info info = type_info(block->header.type);
    uint8_t *state = (uint8_t *)(block + 1);

    if (info.layer != layer || !(info.parts & part))
        return NULL;
    for (unsigned int before = PART_CONST; before < part; before <<= 1) {
        if (info.parts & before)
            state += part_size(layer, before);
    }
    return state;
}

struct chimney_neighbor_const *tree_neighbor_const(struct chimney_block *block)
{
    return state_part(block, TREE_NEIGHBOR, PART_CONST);
}

struct chimney_neighbor_cached *tree_neighbor_cached(struct chimney_block *block)
{
    return state_part(block, TREE_NEIGHBOR, PART_CACHED);
}

struct chimney_neighbor_delegated *tree_neighbor_delegated(struct chimney_block *block)
{
    return state_part(block, TREE_NEIGHBOR, PART_DELEGATED);
}

struct chimney_path_const *tree_path_const(struct chimney_block *block)
{
    return state_part(block, TREE_PATH, PART_CONST);
}

struct chimney_path_cached *tree_path_cached(struct chimney_block *block)
{
    return state_part(block, TREE_PATH, PART_CACHED);
}

struct chimney_path_delegated *tree_path_delegated(struct chimney_block *block)
{
    return state_part(block, TREE_PATH, PART_DELEGATED);
}

struct chimney_tcp_const *tree_tcp_const(struct chimney_block *block)
{
    return state_part(block, TREE_TCP, PART_CONST);
}

struct chimney_tcp_cached *tree_tcp_cached(struct chimney_block *block)
{
    return state_part(block, TREE_TCP, PART_CACHED);
}

struct chimney_tcp_delegated *tree_tcp_delegated(struct chimney_block *block)
{
    return state_part(block, TREE_TCP, PART_DELEGATED);
}

const char *tree_verb_name(enum tree_verb verb)
{
    static const char *const names[] = {
        [TREE_INITIATE] = "initiate",     [TREE_QUERY] = "query",         [TREE_UPDATE] = "update",
        [TREE_INVALIDATE] = "invalidate", [TREE_TERMINATE] = "terminate",
    };
    return names[verb];
}

/** What must stand behind a block of this type in a tree of this verb (types: tree.h). */
static const char *check_state(enum tree_verb verb, const struct chimney_block *block)
{
    struct type_info info = type_info(block->header.type);
    const uint8_t *state = (const uint8_t *)(block + 1);

    switch (verb) {
    case TREE_INITIATE:
        if (info.parts != PART_ALL)
            return "C14: a new object without its whole state";
        break;
    case TREE_UPDATE:
        if (!(info.parts & PART_CACHED))
            return NULL; /* a bare reference: nothing behind it is read */
        break;
    case TREE_INVALIDATE:
        return NULL;
    case TREE_TERMINATE:
        if (info.parts != PART_DELEGATED)
            return "C227: a terminate tree takes delegated state only";
        break;
    case TREE_QUERY:
        break;
    }
    for (unsigned int part = PART_CONST; part <= PART_DELEGATED; part <<= 1) {
        struct chimney_state_header header;

        if (!(info.parts & part))
            continue;
        memcpy(&header, state, sizeof(header));
        if (header.length != part_size(info.layer, part))
            return "C26: the length of a state structure is not its size";
        state += header.length;
    }
    return NULL;
}

static const char *check_block(enum tree_verb verb, const struct chimney_block *block,
                               enum tree_layer layer)
{
    enum tree_role role = tree_block_role(block);

    if (block->header.revision != CHIMNEY_REVISION)
        return "C112: a block of another revision";
    if (block->header.size != sizeof(*block))
        return "C112: a block of another size";
    if (layer == TREE_TCP && block->dependents)
        return "C16: a TCP block has dependents";
    /* The type of an initiate's placeholder means nothing (C102). */
    if (!(verb == TREE_INITIATE && role == TREE_PLACEHOLDER) && tree_block_layer(block) != layer)
        return tree_block_layer(block) == TREE_INVALID ? "C14: a block of unknown type"
                                                       : "C15: a block in another type's layer";
    if (role == TREE_PLACEHOLDER)
        return verb == TREE_INITIATE && block->dependents ? "C102: a placeholder has dependents"
                                                          : NULL;
    if (verb == TREE_INITIATE) {
        if (role == TREE_LINKER)
            return block->dependents ? NULL : "C103: a linker has no dependents";
        return check_state(verb, block);
    }
    if (role == TREE_NEW)
        return "C18: the cell of an object that is not offloaded";
    return check_state(verb, block);
}

static const char *check_list(enum tree_verb verb, const struct chimney_block *list,
                              enum tree_layer layer, uint32_t *count)
{
    for (const struct chimney_block *block = list; block; block = block->next) {
        const char *wrong;

        if (++*count > TREE_MAX_BLOCKS)
            return "C28: a tree without end";
        wrong = check_block(verb, block, layer);
        if (!wrong && block->dependents)
            wrong = check_list(verb, block->dependents, layer + 1, count);
        if (wrong)
            return wrong;
    }
    return NULL;
}

const char *tree_validate(enum tree_verb verb, const struct chimney_block *root)
{
    enum tree_layer layer;
    uint32_t count = 0;

    if (!root)
        return "C28: no tree";
    /* An initiate begins at the neighbors; the other verbs begin at any layer (contract.md 2.2). */
    layer = verb == TREE_INITIATE ? TREE_NEIGHBOR : tree_block_layer(root);
    if (layer == TREE_INVALID)
        return "C14: a block of unknown type";
    return check_list(verb, root, layer, &count);
}

struct walk {
    bool (*visit)(void *arg, struct chimney_block *block, struct chimney_block *parent);
    void *arg;
    uint32_t count;
};

/** @depth bounds a tree that never went through tree_validate(). */
static bool walk_list(struct walk *walk, struct chimney_block *list, struct chimney_block *parent,
                      unsigned int depth)
{
    struct chimney_block *block, *next;

    for (block = list; block; block = next) {
        struct chimney_block *dependents = block->dependents;

        next = block->next;
        if (++walk->count > TREE_MAX_BLOCKS || !walk->visit(walk->arg, block, parent))
            return false;
        if (dependents && depth < TREE_TCP && !walk_list(walk, dependents, block, depth + 1))
            return false;
    }
    return true;
}

void tree_walk(struct chimney_block *root,
               bool (*visit)(void *arg, struct chimney_block *block, struct chimney_block *parent),
               void *arg)
{
    struct walk walk = {.visit = visit, .arg = arg};

    walk_list(&walk, root, NULL, TREE_NEIGHBOR);
}

static bool set_status(void *arg, struct chimney_block *block, struct chimney_block *parent)
{
    block->status = *(const chimney_status *)arg;
    return true;
}

void tree_set_status(struct chimney_block *root, chimney_status status)
{
    tree_walk(root, set_status, &status);
}
