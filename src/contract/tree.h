/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of offload blocks: layout, validation, the walk and its status rules (contract.md 1.3, 1.4,
 * 2.3).  Used by every target, so that order and partial success are the same everywhere.
 */
#ifndef CHIMNEY_CONTRACT_TREE_H
#define CHIMNEY_CONTRACT_TREE_H

#include <chimney/target.h>

enum tree_layer { TREE_NEIGHBOR = 0, TREE_PATH = 1, TREE_TCP = 2, TREE_INVALID = 3 };

/** Layer a block belongs to, by its header type. */
enum tree_layer tree_block_layer(const struct chimney_block *block);
/** Role of a block in an initiate tree (C18, C102 to C104). */
enum tree_role { TREE_PLACEHOLDER, TREE_LINKER, TREE_NEW };
enum tree_role tree_block_role(const struct chimney_block *block);

/** Bytes of block plus following state for @type; 0 for a type with no structure of its own. */
size_t tree_block_size(enum chimney_state_type type);
/**
 * Lays a block of @type out in @memory (tree_block_size() bytes, 8-byte aligned): header, lengths
 * of all state headers, everything else zero, status poisoned.  Returns the block.
 */
#define TREE_STATUS_POISON ((chimney_status)0xDEADBEEFu)
struct chimney_block *tree_block_init(void *memory, enum chimney_state_type type);

/* The state behind a block, or NULL if its type has no such part. */
struct chimney_neighbor_const *tree_neighbor_const(struct chimney_block *);
struct chimney_neighbor_cached *tree_neighbor_cached(struct chimney_block *);
struct chimney_neighbor_delegated *tree_neighbor_delegated(struct chimney_block *);
struct chimney_path_const *tree_path_const(struct chimney_block *);
struct chimney_path_cached *tree_path_cached(struct chimney_block *);
struct chimney_path_delegated *tree_path_delegated(struct chimney_block *);
struct chimney_tcp_const *tree_tcp_const(struct chimney_block *);
struct chimney_tcp_cached *tree_tcp_cached(struct chimney_block *);
struct chimney_tcp_delegated *tree_tcp_delegated(struct chimney_block *);

enum tree_verb { TREE_INITIATE, TREE_QUERY, TREE_UPDATE, TREE_INVALIDATE, TREE_TERMINATE };
const char *tree_verb_name(enum tree_verb verb);

/** Limit on blocks in one tree; a longer one (or a cycle) is refused. */
#define TREE_MAX_BLOCKS (1u << 20)

/**
 * Checks shape, types, revisions, sizes and lengths of a whole tree before anything is done with it
 * (C14 to C16, C18, C26, C102, C103, C112, C227).  Returns NULL, or a line that says what is
 * wrong and begins with the row ("C15: ...").  @verb decides what stands behind a block:
 *
 *   initiate    the combined type behind new objects, nothing behind linkers and placeholders; the
 *               root is a neighbor; the type of a placeholder is ignored
 *   query       what the type says; to be filled in
 *   update      cached and combined types: cached values to take over; any other type: a bare
 *               reference, as in a relink, behind which nothing is read
 *   invalidate  nothing, whatever the type (C204)
 *   terminate   delegated types only (C227); to be filled in
 *
 * Except in an initiate the root may be of any layer, and a placeholder may have dependents.
 */
const char *tree_validate(enum tree_verb verb, const struct chimney_block *root);

/** Calls @visit for each block: own, dependents, then next (C106).  Stops when it returns false. */
void tree_walk(struct chimney_block *root,
               bool (*visit)(void *arg, struct chimney_block *block, struct chimney_block *parent),
               void *arg);
/** Writes @status into every block. */
void tree_set_status(struct chimney_block *root, chimney_status status);

/** True for the RFC 793 states in which a connection may be offloaded (C58). */
static inline bool tree_tcp_state_legal(uint32_t state)
{
    return state >= TcpConnectionEstablished && state <= TcpConnectionLastAck;
}

/**
 * How an initiate takes objects; each returns the block's status and, on success, the context that
 * the walk writes into the cell (C104, C105).  @neighbor and @path are contexts of the parents, of
 * new objects or of referenced ones.
 */
struct tree_taker {
    chimney_status (*take_neighbor)(void *arg, struct chimney_block *, void **context);
    chimney_status (*take_path)(void *arg, struct chimney_block *, void *neighbor, void **context);
    chimney_status (*take_tcp)(void *arg, struct chimney_block *, void *path, void **context);
};
/**
 * Walks an initiate tree, depth first, and writes every status: partial success, linkers,
 * placeholders, going on after a resource failure, stopping after any other (C102 to C107, C156 to
 * C159).  Does not complete the verb.
 */
void tree_initiate(struct chimney_block *root, const struct tree_taker *taker, void *arg);
/**
 * True for the statuses that concern their own block alone and do not stop the walk (C156): every
 * category of contract.md 2.3; not FAILURE, nor any code that is not in that list (C157).
 */
bool tree_status_is_resource(chimney_status status);

#endif
