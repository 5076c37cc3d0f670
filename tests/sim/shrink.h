/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts a failing scenario down: takes events and impairments away as long as it still fails.
 */
#ifndef CHIMNEY_SIM_SHRINK_H
#define CHIMNEY_SIM_SHRINK_H

#include "world.h"

#define SHRINK_RECIPE 2048

/**
 * Keeps only the events listed in @events ("3,17", "none", NULL: all) and takes away the
 * impairments listed in @without (NULL: none).  Returns NULL, or the text that was not understood.
 */
const char *shrink_restrict(struct scenario *scenario, const char *events, const char *without);
/**
 * Runs smaller variants of @scenario, which failed with @result, until none of them fails in the
 * same way; writes the options that reproduce the smallest into @recipe.
 */
void shrink_failure(struct scenario *scenario, const struct world_result *result,
                    char recipe[SHRINK_RECIPE]);

#endif
