#include "certificates.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "shell.h"

static char folder[64];

const char *certificates_make(void) {
    char output[4096];

    (void)snprintf(folder, sizeof(folder), "/tmp/daybook-tls-XXXXXX");
    cr_assert_not_null(mkdtemp(folder));
    const int code = shell(
        output, sizeof(output),
        "set -e; cd %s; umask 077; "
        "ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=$1 -keyout $1.key -out $1.pem; }; "
        "leaf() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$1 "
        "-keyout $1.key -out $1.csr; "
        "printf 'subjectAltName=IP:127.0.0.1' >$1.ext; "
        "openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
        "-extfile $1.ext -out $1.pem; }; "
        "{ ca ca; ca other-ca; leaf server; leaf client; } 2>&1",
        folder);
    cr_assert_eq(code, 0, "%s", output);
    return folder;
}

void certificates_delete(void) {
    char output[256];

    if (folder[0] != '\0') {
        (void)shell(output, sizeof(output), "rm -rf '%s'", folder);
        folder[0] = '\0';
    }
}
