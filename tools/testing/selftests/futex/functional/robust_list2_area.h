/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fixture for tests that do not depend on the pointer width */

#ifndef _ROBUST_LIST2_AREA_H
#define _ROBUST_LIST2_AREA_H

#include "robust_list2_test.h"

FIXTURE(robust_list2) {
	struct area *area;
};

FIXTURE_SETUP(robust_list2)
{
	if (!have_syscall())
		SKIP(return, "set_robust_list2() is not implemented");
	self->area = map_area(_metadata);
}

FIXTURE_TEARDOWN(robust_list2)
{
	unmap_area(_metadata, self->area);
}

#endif
