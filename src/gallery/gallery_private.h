/*
 * gallery_private - what files of this room share with each other, and its unit tests with them.
 */
#pragma once

#include "cpgfs/gallery.h"

/* NAME_TEMPORARY, NAME_JUNK or NAME_OK, by the policy's lists. */
enum name_verdict held_judge(const struct naming_policy *p, const char *name);

/* Does the strict folder rule hold for this component? */
bool naming_is_strict(const struct naming_policy *p, bool is_folder, unsigned depth);
/* Letters, digits, _ - and inner dots, at least one character. */
bool naming_is_plain(const char *name);
