/* SPDX-License-Identifier: Apache-2.0 */
#include "host/fault.h"

int (*handoff_fault)(const char *step);
