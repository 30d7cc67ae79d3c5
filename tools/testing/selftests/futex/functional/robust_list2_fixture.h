/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fixture for tests with lists of either pointer width */

#ifndef _ROBUST_LIST2_FIXTURE_H
#define _ROBUST_LIST2_FIXTURE_H

#include "robust_list2_test.h"

FIXTURE(list) {
	struct victim victim;
	struct area *area;
};

FIXTURE_VARIANT(list) {
	unsigned int type, pointer_size;
};

FIXTURE_VARIANT_ADD(list, list32) {
	.type = ROBUST_LIST_32BIT,
	.pointer_size = 4,
};

#ifdef BUILD_64
FIXTURE_VARIANT_ADD(list, list64) {
	.type = ROBUST_LIST_64BIT,
	.pointer_size = 8,
};
#endif

FIXTURE_SETUP(list)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	self->area = map_area(_metadata);
	self->victim.area = self->area;
	self->victim.type = variant->type;
}

FIXTURE_TEARDOWN(list)
{
	unmap_area(_metadata, self->area);
}

#endif
