/* Hashes against known values. */
#include <criterion/criterion.h>
#include <string.h>

#include "common/base/hash.h"

Test(hash, the_sparse_way_gives_the_same_value) {
    char bytes[300] = {0};

    for (size_t used = 0; used <= 40; used++) {
        for (size_t len = used; len <= sizeof(bytes); len += 13) {
            const struct str text = str_of(bytes, len);
            cr_assert_eq(hash_fnv1a_sparse(HASH_FNV1A_START, text),
                         hash_fnv1a(HASH_FNV1A_START, text), "%zu of %zu", used, len);
        }
        bytes[used] = (char)(used * 37 + 1);
    }
}
